package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// disclosed is a secret with what it holds, as the API gives it.
type disclosed struct {
	Name        string    `json:"name"`
	Kind        string    `json:"kind"`
	Format      string    `json:"format"`
	Version     int64     `json:"version"`
	CreatedAt   time.Time `json:"created_at"`
	Value       hidden    `json:"value"`
	ValueBase64 hidden    `json:"value_base64"`
	Username    hidden    `json:"username"`
	Password    hidden    `json:"password"`
}

func (d *disclosed) release() {
	for _, h := range []hidden{d.Value, d.ValueBase64, d.Username, d.Password} {
		h.Release()
	}
}

// raw gives exactly the bytes of a value, or of one field of a userpass secret. The caller releases them.
func (d *disclosed) raw(name string) (sensitive.Bytes, error) {
	isPair := d.Format == string(secret.Userpass)
	switch {
	case name != "" && !isPair:
		return sensitive.Bytes{}, fmt.Errorf("--field is for a userpass secret, and %s is %s: leave it out", d.Name, d.Format)
	case name == "" && isPair:
		return sensitive.Bytes{}, fmt.Errorf("%s holds a user name and a password: choose one with --field", d.Name)
	case name == "username":
		return d.Username.Clone(), nil
	case name == "password":
		return d.Password.Clone(), nil
	case d.ValueBase64.IsZero():
		return d.Value.Clone(), nil
	}
	decoded, err := decodeBase64(d.ValueBase64.Reveal())
	return sensitive.Take(decoded), err
}

func (a *app) secretGetCommand(client *clientFlags) *cobra.Command {
	var (
		version   int64
		raw       bool
		fieldName string
		asJSON    bool
	)
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Read a secret",
		Long: `Read a secret. A table shows control characters escaped; --raw and --field write the exact bytes, and no newline.
Reading needs an address in VAULT_ALLOWED_IPS of the server, and a token only where the server asks for one.`,
		Example: `  sealkeep secret get tls/key --raw >key.pem
  sealkeep secret get payments/db --field password`,
		Args: oneName("secret"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := secret.ParseName(args[0])
			if err != nil {
				return badArgument(err)
			}
			if fieldName != "" && fieldName != "username" && fieldName != "password" {
				return usage("--field takes username or password")
			}
			if asJSON && (raw || fieldName != "") {
				return usage("give --json, or --raw and --field, not both")
			}
			c, err := a.newClient(*client)
			if err != nil {
				return err
			}
			defer c.close()
			k := call{method: http.MethodGet, path: secretPath(name), anonymous: true, of: "secret " + name.String()}
			if cmd.Flags().Changed("version") {
				k.query = url.Values{"version": {strconv.FormatInt(version, 10)}}
				k.of = "secret " + name.String() + ", or it has no valid version " + strconv.FormatInt(version, 10)
			}
			answered, err := c.do(cmd.Context(), k)
			if err != nil {
				return err
			}
			defer answered.release()
			if asJSON {
				answered.addEntityTag()
				return printJSON(a.Stdout, answered.body)
			}
			var d disclosed
			defer func() { d.release() }()
			if err := json.Unmarshal(answered.body, &d); err != nil {
				return errors.New("the answer can't be read")
			}
			if raw || fieldName != "" {
				return a.writeRaw(&d, fieldName)
			}
			return a.printDisclosed(&d, entityTag(answered.header))
		},
	}
	cmd.Flags().Int64Var(&version, "version", 0, "read version `N`, which must still be valid")
	cmd.Flags().BoolVar(&raw, "raw", false, "write exactly the bytes of the value, and no newline")
	cmd.Flags().StringVar(&fieldName, "field", "", "write exactly the `username|password` of a userpass secret, and no newline")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) writeRaw(d *disclosed, fieldName string) error {
	value, err := d.raw(fieldName)
	if err != nil {
		return err
	}
	defer value.Release()
	_, err = a.Stdout.Write(value.Reveal())
	return err
}

func (a *app) printDisclosed(d *disclosed, tag string) error {
	shown := func(h hidden) string { return string(h.Reveal()) }
	return fields(
		a.Stdout,
		field{"name", d.Name},
		field{"kind", d.Kind},
		field{"format", d.Format},
		field{"version", strconv.FormatInt(d.Version, 10)},
		field{"created", when(&d.CreatedAt)},
		field{"etag", tag},
		field{"username", shown(d.Username)},
		field{"password", shown(d.Password)},
		field{"value", shown(d.Value)},
		field{"value_base64", shown(d.ValueBase64)},
	)
}

// addEntityTag adds the entity tag, which is a header, to an answer that is one JSON object. The body may hold a value:
// the one it had is zeroed.
func (r *answer) addEntityTag() {
	tag := entityTag(r.header)
	if tag == "" || len(r.body) < 2 || r.body[0] != '{' {
		return
	}
	o := newObject(0)
	o.set("etag", tag)
	tagged := make([]byte, 0, len(o.buffer)+len(r.body))
	tagged = append(append(tagged, o.buffer...), ',')
	tagged = append(tagged, r.body[1:]...)
	r.release()
	r.body = tagged
}

func (a *app) secretVerifyCommand(client *clientFlags) *cobra.Command {
	var (
		from   valueFlags
		quiet  bool
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "verify NAME",
		Short: "Check a value against the valid versions of a secret",
		Long: `Check a value against all valid versions of a secret; a userpass secret is checked by its password.
Exit status: 0 valid, 1 not valid, 2 could not check.

` + valueHelp,
		Args: oneSecret,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := secret.ParseName(args[0])
			if err != nil {
				return badArgument(err)
			}
			return unchecked(func() error {
				value, err := a.readValue(cmd.Context(), from, "Value to check: ")
				if err != nil {
					return err
				}
				defer value.Release()
				body := newObject(value.Len())
				body.secretValue(value.Reveal())
				text, err := body.bytes()
				if err != nil {
					return err
				}
				c, err := a.newClient(*client)
				if err != nil {
					return err
				}
				defer c.close()
				answered, err := c.do(cmd.Context(), call{
					method: http.MethodPost, path: secretPath(name, "verify"), body: text, anonymous: true,
					of: "secret " + name.String(),
				})
				if err != nil {
					return err
				}
				return a.printVerdict(answered, quiet, asJSON)
			}())
		},
	}
	from.add(cmd)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing: the exit status tells")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) printVerdict(answered *answer, quiet, asJSON bool) error {
	var verdict struct {
		Valid   *bool `json:"valid"`
		Version int64 `json:"version"`
	}
	if err := json.Unmarshal(answered.body, &verdict); err != nil || verdict.Valid == nil {
		return errors.New("the answer can't be read")
	}
	switch {
	case quiet:
	case asJSON:
		if err := printJSON(a.Stdout, answered.body); err != nil {
			return err
		}
	case *verdict.Valid:
		fmt.Fprintf(a.Stdout, "valid, version %d\n", verdict.Version)
	default:
		fmt.Fprintln(a.Stdout, "not valid")
	}
	if !*verdict.Valid {
		return &statusError{status: statusNo}
	}
	return nil
}
