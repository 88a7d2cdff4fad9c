package cli

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/secret"
)

func (a *app) secretCommand() *cobra.Command {
	flags := new(clientFlags)
	group := a.group(&cobra.Command{
		Use:   "secret",
		Short: "Create, read, change, rotate and delete secrets",
	},
		a.secretCreateCommand(flags),
		a.secretGetCommand(flags),
		a.secretPutCommand(flags),
		a.secretRemoveCommand(flags),
		a.secretListCommand(flags),
		a.secretRotateCommand(flags),
		a.secretRollbackCommand(flags),
		a.secretPauseCommand(flags),
		a.secretResumeCommand(flags),
		a.secretVerifyCommand(flags),
		a.secretVersionsCommand(flags),
	)
	flags.add(group)
	return group
}

func (f *clientFlags) add(group *cobra.Command) {
	group.PersistentFlags().BoolVar(&f.insecureHTTP, "insecure-http", false,
		"send the token over plain HTTP to another machine")
}

// secretPath is the path of a secret, or of something below it. Names need no escaping.
func secretPath(name secret.Name, below ...string) string {
	return strings.Join(append([]string{"/v1/secrets", name.String()}, below...), "/")
}

// metadata is a secret without its value, as the API gives it.
type metadata struct {
	Name                 string            `json:"name"`
	Kind                 string            `json:"kind"`
	Format               string            `json:"format"`
	Description          string            `json:"description"`
	RotationIntervalSecs *int64            `json:"rotation_interval_secs"`
	GracePeriodSecs      int64             `json:"grace_period_secs"`
	Version              int64             `json:"version"`
	NextRotationAt       *time.Time        `json:"next_rotation_at"`
	Paused               bool              `json:"paused"`
	CustomMetadata       map[string]string `json:"custom_metadata"`
	CreatedAt            time.Time         `json:"created_at"`
	UpdatedAt            time.Time         `json:"updated_at"`
}

// newVersion is what the commands that make a version print: all but what it holds.
type newVersion struct {
	Name      string     `json:"name"`
	Kind      string     `json:"kind"`
	Format    string     `json:"format"`
	Version   int64      `json:"version"`
	CreatedAt *time.Time `json:"created_at,omitempty"`
	ETag      string     `json:"etag,omitempty"`
}

// printVersion says what was done to a secret. note ends that line.
func (a *app) printVersion(v newVersion, asJSON bool, did, note string) error {
	if asJSON {
		return marshalJSON(a.Stdout, v)
	}
	_, err := fmt.Fprintf(a.Stdout, "%s %s, version %d%s\n", did, printable(v.Name), v.Version, note)
	return err
}

// settingFlags are what a secret is told about itself.
type settingFlags struct {
	description string
	interval    secondsFlag
	grace       secondsFlag
	metadata    []string
	noMetadata  bool
	rotation    rotationFlags
}

func (f *settingFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.description, "description", "", "what the secret is for; shown in lists")
	cmd.Flags().Var(&f.interval, "rotation-interval", "how often an automatic secret is rotated, "+durationHelp)
	cmd.Flags().Var(&f.grace, "grace-period", "how long a superseded version stays valid, "+durationHelp+" (a new secret's default is 0: not at all)")
	cmd.Flags().StringArrayVar(&f.metadata, "metadata", nil, "a pair `KEY=VALUE` of custom metadata, not secret; can be given again")
	f.rotation.add(cmd)
}

// given tells whether any of them was.
func (f *settingFlags) given(cmd *cobra.Command) bool {
	for _, name := range append([]string{"description", "rotation-interval", "grace-period", "metadata", "no-metadata"}, rotationFlagNames...) {
		if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
			return true
		}
	}
	return false
}

func (f *settingFlags) addTo(a *app, cmd *cobra.Command, o *object, change bool) error {
	if err := f.rotation.addTo(cmd.Context(), a, cmd, o, change); err != nil {
		return err
	}
	if cmd.Flags().Changed("description") {
		o.set("description", f.description)
	}
	if f.interval.given {
		o.set("rotation_interval_secs", f.interval.seconds)
	}
	if f.grace.given {
		o.set("grace_period_secs", f.grace.seconds)
	}
	switch {
	case f.noMetadata && len(f.metadata) > 0:
		return usage("give --metadata or --no-metadata, not both")
	case f.noMetadata:
		o.set("custom_metadata", nil)
	case len(f.metadata) > 0:
		pairs := make(map[string]string, len(f.metadata))
		for _, pair := range f.metadata {
			key, value, found := strings.Cut(pair, "=")
			if _, twice := pairs[key]; !found || key == "" || twice {
				return usage("--metadata takes KEY=VALUE, each key once")
			}
			pairs[key] = value
		}
		o.set("custom_metadata", pairs)
	}
	return nil
}

// setEntityTag adds an If-Match to a call. Its quotes may be left out, as shells take them away.
func setEntityTag(k *call, tag string) {
	if tag == "" {
		return
	}
	if tag != "*" && !strings.HasPrefix(tag, `"`) {
		tag = `"` + tag + `"`
	}
	if k.header == nil {
		k.header = map[string]string{}
	}
	k.header["If-Match"] = tag
}

// entityTag is the tag of an answer without its quotes.
func entityTag(header http.Header) string { return strings.Trim(header.Get("ETag"), `"`) }
