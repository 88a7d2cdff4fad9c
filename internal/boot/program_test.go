package boot

import (
	"strings"
	"testing"
)

func TestProgram_Arguments(t *testing.T) {
	t.Parallel()
	for _, program := range []Program{APIProgram, RotatorProgram} {
		own, other := "VAULT_ALLOWED_IPS", "VAULT_ROTATION_WORKERS"
		telemetry := "(default 127.0.0.1:9200)"
		if program.Name == "rotator" {
			own, other, telemetry = other, own, "(default 127.0.0.1:9201)"
		}
		for args, want := range map[string]struct {
			status         int
			stdout, stderr string
		}{
			"--version":      {0, "sealkeep " + program.Name + " ", ""},
			"--help":         {0, "* VAULT_LOCAL_MASTER_KEY\n", ""},
			"-h":             {0, "  " + own + "\n", ""},
			"--help ":        {0, telemetry, ""},
			"--hepl":         {2, "", program.Name + " takes no arguments"},
			"serve":          {2, "", program.Name + " takes no arguments"},
			"--version more": {2, "", program.Name + " takes no arguments"},
		} {
			var stdout, stderr strings.Builder
			status := program.Inform(strings.Fields(args), &stdout, &stderr)
			if status != want.status || !strings.Contains(stdout.String(), want.stdout) || !strings.Contains(stderr.String(), want.stderr) ||
				(want.stdout == "") != (stdout.Len() == 0) || (want.stderr == "") != (stderr.Len() == 0) {
				t.Errorf("%s %s: %d %q %q", program.Name, args, status, stdout.String(), stderr.String())
			}
			for _, not := range []string{"VAULT_BOOTSTRAP_TOKEN", other} {
				if strings.Contains(stdout.String(), "  "+not+"\n") || strings.Contains(stdout.String(), "* "+not+"\n") {
					t.Errorf("%s %s lists %s, which another program reads", program.Name, args, not)
				}
			}
		}
	}
}
