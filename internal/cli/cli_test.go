package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/process"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

func TestRun_WrongCommandLinesEndWithTwo(t *testing.T) {
	t.Parallel()
	sh := shell{t, nil}
	for command, want := range map[string]string{
		"":                 "Usage:",
		"secret":           "Available Commands:",
		"secre":            "did you mean secret?",
		"secret gte x":     `there is no command "gte"`,
		"secret get":       "give the name of the secret",
		"secret get a b":   "one name of a secret",
		"secret get /a":    "empty segment",
		"secret get a/../": "names are 1 to 255 bytes",
		"secret get x --y": "unknown flag: --y",
		"token list x":     "takes no arguments",
		"dev x":            "takes no arguments",
		"version --x":      "--help",
	} {
		r := sh.run(command).ends(2).says(want)
		if r.stdout != "" {
			t.Errorf("%s: printed %q", command, r.stdout)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	sh := shell{t, nil}
	sh.run("version").ok().shows("sealkeep "+process.Version, "runtime/secret o")
	if flag := sh.run("--version").ok(); flag.stdout != sh.run("version").stdout {
		t.Errorf("--version prints %q", flag.stdout)
	}
	r := sh.run("version --json").ok()
	var got map[string]string
	erasure := map[bool]string{true: "on", false: "off"}[sensitive.Erases]
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || got["version"] != process.Version || got["runtime_secret"] != erasure {
		t.Errorf("%v %s", err, r.stdout)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	sh := shell{t, nil}
	for _, name := range []string{"bash", "zsh", "fish", "powershell"} {
		sh.run("completion " + name).ok().shows("sealkeep")
	}
	if r := sh.pipe("", "__complete", "secret", "").ok(); !strings.Contains(r.stdout, "verify\t") || strings.Contains(r.stdout, "__") {
		t.Errorf("completes secret with\n%s", r.stdout)
	}
	sh.pipe("", "__complete", "").ok().shows("dev\t").hides(apiChildName).hides(rotatorChildName)
}

func TestHelp_NamesActionsDefaultsAndShortForms(t *testing.T) {
	t.Parallel()
	sh := shell{t, nil}
	sh.run("role create --help").ok().shows("read, ", "rotate", "delete")
	sh.run("secret create --help").ok().shows("default is 0")
	for _, group := range []string{"secret", "role", "token"} {
		sh.run(group + " ls --help").ok().shows("list, ls")
	}
}

// Help is what people read first.
func TestHelp_EveryCommandIsExplained(t *testing.T) {
	t.Parallel()
	a := &app{Invocation{Program: "sealkeep"}}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: %q", cmd.CommandPath(), cmd.Short)
		}
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if len(line) > 122 {
				t.Errorf("%s: a line of %d characters", cmd.CommandPath(), len(line))
			}
		}
		shell{t, nil}.run(strings.TrimPrefix(cmd.CommandPath(), "sealkeep") + " --help").ok().shows("Usage:")
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(a.rootCommand())
}
