package sealkeeptest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// asProgram makes a test's binary the program that it tests.
const asProgram = "SEALKEEP_TEST_AS_PROGRAM_OF_CMD"

// ProgramMain is pgtest.Main for the tests of a program: where StartProgram started the binary, it is the program, and
// main is to end it.
func ProgramMain(m *testing.M, main func()) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	pgtest.Main(m)
}

// Program is the program that a package of tests is about, running as a process of its own.
type Program struct {
	Cmd *exec.Cmd
	Log bytes.Buffer // complete once Status has returned

	lines chan map[string]any // of its log
}

// endBefore is how long before the tests' own deadline a program is killed that is still there: a test that waits for it then fails, and
// nothing is left of it, as there would be if the deadline ended the tests.
const endBefore = 5 * time.Second

// StartProgram starts it in that environment and no other. It is killed when the test ends, if it is still there.
func StartProgram(t testing.TB, environ map[string]string, args ...string) *Program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	if limited, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if deadline, ok := limited.Deadline(); ok {
			time.AfterFunc(time.Until(deadline)-endBefore, cancel)
		}
	}
	p := &Program{Cmd: exec.CommandContext(ctx, self, args...), lines: make(chan map[string]any, 1000)}
	p.Cmd.Env = []string{asProgram + "=1"}
	for name, value := range environ {
		p.Cmd.Env = append(p.Cmd.Env, name+"="+value)
	}
	stderr, err := p.Cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Cmd.Process.Kill() // if a failed test left it
		_ = p.Cmd.Wait()
	})
	go func() {
		defer close(p.lines)
		scanner := bufio.NewScanner(stderr)
		for scanner.Scan() {
			p.Log.WriteString(scanner.Text() + "\n")
			var line map[string]any
			if json.Unmarshal(scanner.Bytes(), &line) == nil {
				p.lines <- line
			}
		}
	}()
	return p
}

// Await returns the next line of the log that comes with this message, and with this value of key unless that is empty.
func (p *Program) Await(t testing.TB, message, key, value string) map[string]any {
	t.Helper()
	for line := range p.lines {
		if line["msg"] == message && (key == "" || line[key] == value) {
			return line
		}
	}
	t.Fatalf("the program ended without %q:\n%s", message, p.Log.String())
	return nil
}

// Status waits for the program's end and gives its exit status.
func (p *Program) Status(t testing.TB) int {
	t.Helper()
	for range p.lines { // to the end of its log
	}
	err := p.Cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	t.Fatal(err)
	return -1
}

// ProgramEnviron makes an initialised vault, with a local master key, and gives the environment in which a program serves it by
// the login, and the vault's admin token.
func ProgramEnviron(t testing.TB, login string) (environ map[string]string, token string) {
	t.Helper()
	key, err := kms.NewMasterKeyText(nil)
	if err != nil {
		t.Fatal(err)
	}
	d := pgtest.New(t)
	environ = map[string]string{
		"VAULT_KMS_MODE": "local", "VAULT_LOCAL_MASTER_KEY": strings.TrimSpace(string(key)), "VAULT_DATABASE_URL": d.URL(login), "VAULT_PG_MAX_CONNS": "4",
		"VAULT_API_LISTEN": "127.0.0.1:0", "VAULT_TELEMETRY_LISTEN": "127.0.0.1:0", "VAULT_ALLOWED_IPS": "127.0.0.1",
	}
	return environ, initialise(t, d, environ, slog.New(slog.DiscardHandler))
}
