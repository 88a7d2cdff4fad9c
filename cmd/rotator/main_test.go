package main

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
)

func TestMain(m *testing.M) { sealkeeptest.ProgramMain(m, main) }

func TestTerminationEndsTheProgramInOrder(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			environ, token := sealkeeptest.ProgramEnviron(t, "sealkeep_rotator")
			p := sealkeeptest.StartProgram(t, environ)
			p.Await(t, "listening", "listener", "telemetry")
			if err := p.Cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			p.Await(t, "stopped", "", "")
			if status := p.Status(t); status != 0 {
				t.Errorf("exited with %d:\n%s", status, p.Log.String())
			}
			if text := p.Log.String(); strings.Contains(text, token) || strings.Contains(text, environ["VAULT_LOCAL_MASTER_KEY"]) {
				t.Errorf("I1: the log holds a secret:\n%s", text)
			}
		})
	}
}

func TestSignalDuringTheStartIsNoFailure(t *testing.T) {
	t.Parallel()
	place, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = place.Close() // no database is there
	p := sealkeeptest.StartProgram(t, map[string]string{
		"VAULT_DATABASE_URL": "postgres://u@" + place.Addr().String() + "/d", "VAULT_KMS_MODE": "local", "VAULT_LOCAL_MASTER_KEY": strings.Repeat("0f", 32),
	})
	p.Await(t, "waiting for the database", "", "")
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := p.Status(t); status != 0 {
		t.Errorf("exited with %d:\n%s", status, p.Log.String())
	}
}

func TestProgramThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	t.Run("all of it, in its configuration", func(t *testing.T) {
		t.Parallel()
		p := sealkeeptest.StartProgram(t, map[string]string{
			"VAULT_ROTATION_WORKERS": "none", "VAULT_LOCAL_MASTER_KEY": "canary", "VAULT_KMS_MODE": "local", "VAULT_ROTATION_WEBHOOK_ALLOWED_IPS": "10.0.0.1/8",
		})
		status, said := p.Status(t), p.Log.String()
		if status != 1 || strings.Contains(said, "canary") || !strings.HasPrefix(said, "rotator: ") {
			t.Errorf("exited with %d:\n%s", status, said)
		}
		for _, variable := range []string{"VAULT_ROTATION_WORKERS", "VAULT_ROTATION_WEBHOOK_ALLOWED_IPS", "VAULT_LOCAL_MASTER_KEY", "VAULT_DATABASE_URL"} {
			if !strings.Contains(said, "\n  "+variable+": ") {
				t.Errorf("no word of %s:\n%s", variable, said)
			}
		}
	})
	t.Run("in one line, about its database", func(t *testing.T) {
		t.Parallel()
		environ, _ := sealkeeptest.ProgramEnviron(t, "sealkeep_api") // which is another program's login
		p := sealkeeptest.StartProgram(t, environ)
		line := p.Await(t, "can't start", "", "")
		if said, _ := line["error"].(string); !strings.Contains(said, "is not in vault_rotator") || strings.Contains(said, "\n") {
			t.Errorf("got %v", line)
		}
		if status := p.Status(t); status != 1 {
			t.Errorf("exited with %d", status)
		}
	})
}

func TestUnknownArgumentsEndTheProgram(t *testing.T) {
	t.Parallel()
	if status := sealkeeptest.StartProgram(t, nil, "--unknown").Status(t); status != 2 {
		t.Errorf("exited with %d", status)
	}
}
