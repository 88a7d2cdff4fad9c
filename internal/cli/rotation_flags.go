package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

const rotationHelp = `An automatic secret rotates every --rotation-interval, or as --cron says: minute, hour, day of month, month and
weekday, or @daily and the like, with --time-zone, and within a --window. --target says what a rotation changes outside
the vault, as a JSON object: {"type":"postgres","hosts":["db1.example.com:5432"],"mode":"single"}, or
{"type":"webhook","url":"https://…","signing_secret":"NAME"}.`

// rotationFlags are what an automatic secret is told about its rotation. Each group replaces what there was of it.
type rotationFlags struct {
	cron, timeZone, missed string
	window                 secondsFlag

	length   int
	alphabet string
	classes  []string

	loginHosts []string
	target     string
	atOnce     bool

	noPolicy, noLoginHosts, noTarget bool
}

func (f *rotationFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.cron, "cron", "", "rotate as this `EXPRESSION` says, in place of an interval, such as '0 3 * * SUN'")
	flags.StringVar(&f.timeZone, "time-zone", "", "the `ZONE` of --cron, such as Europe/Berlin (default UTC)")
	flags.Var(&f.window, "window", "how long after its time of --cron a rotation may still begin, "+durationHelp)
	flags.StringVar(&f.missed, "missed", "", "what becomes of a rotation whose --window has passed: `catch_up|wait` (default catch_up)")
	flags.IntVar(&f.length, "password-length", 0, "how many characters generated values have (default 43)")
	flags.StringVar(&f.alphabet, "password-alphabet", "", "the `CHARACTERS` of generated values (default letters, digits, - and _)")
	flags.StringSliceVar(&f.classes, "password-classes", nil, "of each of these `CLASSES` a generated value has one: lower,upper,digit,symbol")
	flags.StringArrayVar(&f.loginHosts, "login-host", nil, "a `HOST:PORT` that this secret's login may be sent to, to set others' passwords; can be given again")
	flags.StringVar(&f.target, "target", "", "what a rotation changes outside the vault, as JSON in `FILE`; - is standard input")
}

// addCreate adds what only a new secret takes.
func (f *rotationFlags) addCreate(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.atOnce, "rotate-on-create", false, "have a new automatic secret rotate at once")
}

// addPut adds what only a change takes.
func (f *rotationFlags) addPut(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.noPolicy, "no-password-policy", false, "generate values as usual again")
	flags.BoolVar(&f.noLoginHosts, "no-login-hosts", false, "let the secret's login be sent nowhere any more")
	flags.BoolVar(&f.noTarget, "no-target", false, "have rotations change nothing outside the vault any more")
}

// rotationFlagNames are all of them, for who asks whether any was given.
var rotationFlagNames = []string{
	"cron", "time-zone", "window", "missed", "password-length", "password-alphabet", "password-classes", "login-host", "target",
	"no-password-policy", "no-login-hosts", "no-target",
}

// addTo adds what was given to a request. One that changes a secret lets a cron expression and an interval take each other's place.
func (f *rotationFlags) addTo(ctx context.Context, a *app, cmd *cobra.Command, o *object, change bool) error {
	given := func(names ...string) bool {
		for _, name := range names {
			if cmd.Flags().Changed(name) {
				return true
			}
		}
		return false
	}
	if err := f.addSchedule(given, o, change); err != nil {
		return err
	}
	policy := given("password-length", "password-alphabet", "password-classes")
	switch {
	case policy && f.noPolicy:
		return usage("give --no-password-policy or what passwords look like, not both")
	case f.noPolicy:
		o.set("password_policy", nil)
	case policy:
		o.set("password_policy", map[string]any{"length": f.length, "alphabet": f.alphabet, "classes": nonNil(f.classes)})
	}
	switch {
	case len(f.loginHosts) > 0 && f.noLoginHosts:
		return usage("give --login-host or --no-login-hosts, not both")
	case f.noLoginHosts:
		o.set("login_hosts", nil)
	case len(f.loginHosts) > 0:
		o.set("login_hosts", f.loginHosts)
	}
	if f.atOnce {
		o.set("rotate_on_create", true)
	}
	switch {
	case f.target != "" && f.noTarget:
		return usage("give --target or --no-target, not both")
	case f.noTarget:
		o.set("target", nil)
	case f.target != "":
		text, err := f.readTarget(ctx, a)
		if err != nil {
			return err
		}
		o.set("target", json.RawMessage(text))
	}
	return nil
}

func (f *rotationFlags) addSchedule(given func(...string) bool, o *object, change bool) error {
	switch {
	case !given("cron") && given("time-zone", "window", "missed"):
		return usage("--time-zone, --window and --missed go with --cron: give it, too")
	case given("cron") && given("rotation-interval"):
		return usage("give --cron or --rotation-interval, not both")
	case given("cron"):
		schedule := map[string]any{"cron": f.cron}
		if f.timeZone != "" {
			schedule["time_zone"] = f.timeZone
		}
		if f.window.given {
			schedule["window_secs"] = f.window.seconds
		}
		if f.missed != "" {
			schedule["missed"] = f.missed
		}
		o.set("rotation_schedule", schedule)
		if change {
			o.set("rotation_interval_secs", nil)
		}
	case given("rotation-interval") && change:
		o.set("rotation_schedule", nil)
	}
	return nil
}

// errNotJSON never repeats what it speaks of, which may be anything.
var errNotJSON = errors.New(`--target: it is no JSON object; it is to look like {"type":"postgres","hosts":["db1.example.com:5432"],"mode":"single"}`)

func (f *rotationFlags) readTarget(ctx context.Context, a *app) (text []byte, err error) {
	if f.target != "-" {
		text, err = readFile(f.target)
	} else if _, ok := terminal(a.Stdin); ok {
		return nil, usage("--target - takes standard input: pipe the target in")
	} else {
		text, err = readLimited(a.Stdin)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("--target: %w", err)
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) != nil || object == nil {
		return nil, errNotJSON
	}
	return bytes.TrimSpace(text), nil
}

const sharedInput = "--target - takes standard input: give the value with --value-file FILE"

// sharesInput tells whether the target would be read from where the value is.
func (f *rotationFlags) sharesInput(from valueFlags, wantValue bool) bool {
	return f.target == "-" && (from.file == "-" || wantValue && from.file == "")
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
