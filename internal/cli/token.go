package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/access"
)

func (a *app) tokenCommand() *cobra.Command {
	flags := new(clientFlags)
	group := a.group(&cobra.Command{
		Use:   "token",
		Short: "Issue, list and revoke tokens",
	},
		a.tokenCreateCommand(flags),
		a.tokenListCommand(flags),
		a.tokenRevokeCommand(flags),
		a.tokenRecoverCommand(),
	)
	flags.add(group)
	return group
}

// issued is a new token. It is shown once.
type issued struct {
	Name      string     `json:"name"`
	Role      string     `json:"role"`
	Token     hidden     `json:"token"`
	ExpiresAt *time.Time `json:"expires_at"`
}

// outputFlags are how a new token is printed.
type outputFlags struct {
	raw    bool
	asJSON bool
}

func (f *outputFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.raw, "raw", false, "print the token alone")
	jsonFlag(cmd, &f.asJSON)
}

func (f *outputFlags) check() error {
	if f.raw && f.asJSON {
		return usage("give --raw or --json, not both")
	}
	return nil
}

// printIssued shows a new token on Stdout and warns on Stderr that this is the only time.
func (a *app) printIssued(t *issued, f outputFlags) error {
	fmt.Fprintln(a.Stderr, "This token is shown once and stored nowhere: keep it now.")
	text := t.Token.Reveal()
	switch {
	case f.raw:
		_, err := fmt.Fprintf(a.Stdout, "%s\n", text)
		return err
	case f.asJSON:
		o := newObject(len(text))
		o.set("name", t.Name)
		o.set("role", t.Role)
		o.secretText("token", text)
		o.set("expires_at", t.ExpiresAt)
		body, err := o.bytes()
		if err != nil {
			return err
		}
		defer clear(body)
		return printJSON(a.Stdout, body)
	}
	expires := "never"
	if t.ExpiresAt != nil {
		expires = when(t.ExpiresAt)
	}
	return fields(a.Stdout,
		field{"name", t.Name}, field{"role", t.Role}, field{"expires", expires}, field{"token", string(text)})
}

func (a *app) tokenCreateCommand(client *clientFlags) *cobra.Command {
	var (
		role    string
		expires secondsFlag
		out     outputFlags
	)
	cmd := &cobra.Command{
		Use:   "create NAME --role ROLE",
		Short: "Issue a token; it is shown once",
		Args:  oneName("token"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := access.ParseEntityName(args[0])
			if err != nil {
				return badArgument(err)
			}
			if role == "" {
				return usage("--role is missing: it says what the token may do")
			}
			if err := out.check(); err != nil {
				return err
			}
			c, err := a.newClient(*client)
			if err != nil {
				return err
			}
			defer c.close()
			body := newObject(0)
			body.set("name", name)
			body.set("role", role)
			if expires.given {
				body.set("expires_in_secs", expires.seconds)
			}
			text, err := body.bytes()
			if err != nil {
				return err
			}
			answered, err := c.do(cmd.Context(), call{
				method: http.MethodPost, path: "/v1/tokens", body: text, of: "role " + role,
			})
			if err != nil {
				return err
			}
			defer answered.release()
			var made issued
			if err := json.Unmarshal(answered.body, &made); err != nil {
				return fmt.Errorf("the answer can't be read: %w", err)
			}
			defer made.Token.Release()
			return a.printIssued(&made, out)
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "the `ROLE` whose permissions the token gets")
	cmd.Flags().Var(&expires, "expires-in", "how long the token is good for, "+durationHelp+" (default for ever)")
	out.add(cmd)
	return cmd
}

func (a *app) tokenListCommand(client *clientFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List tokens, never their text",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.newClient(*client)
			if err != nil {
				return err
			}
			defer c.close()
			answered, err := c.do(cmd.Context(), call{method: http.MethodGet, path: "/v1/tokens", of: "list of tokens"})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.Stdout, answered.body)
			}
			var list struct {
				Items []struct {
					Name       string     `json:"name"`
					Role       string     `json:"role"`
					CreatedAt  time.Time  `json:"created_at"`
					ExpiresAt  *time.Time `json:"expires_at"`
					RevokedAt  *time.Time `json:"revoked_at"`
					LastUsedAt *time.Time `json:"last_used_at"`
				} `json:"items"`
			}
			if err := json.Unmarshal(answered.body, &list); err != nil {
				return fmt.Errorf("the answer can't be read: %w", err)
			}
			rows := make([][]string, 0, len(list.Items))
			for _, t := range list.Items {
				rows = append(rows, []string{
					t.Name, t.Role, when(&t.CreatedAt), when(t.ExpiresAt), when(t.RevokedAt), when(t.LastUsedAt),
				})
			}
			return table(a.Stdout, []string{"name", "role", "created", "expires", "revoked", "last used"}, rows, "no tokens")
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) tokenRevokeCommand(client *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME",
		Short: "Revoke a token, for good",
		Args:  oneName("token"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := access.ParseEntityName(args[0])
			if err != nil {
				return badArgument(err)
			}
			c, err := a.newClient(*client)
			if err != nil {
				return err
			}
			defer c.close()
			if _, err := c.do(cmd.Context(), call{
				method: http.MethodDelete, path: "/v1/tokens/" + name, of: "token " + name,
			}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Stdout, "revoked %s\n", name)
			return err
		},
	}
}
