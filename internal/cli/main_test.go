package cli

import (
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// asProgram is the variable that makes the test binary behave as the program: `dev` runs its own binary again.
const asProgram = "SEALKEEP_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		environ := map[string]string{}
		for _, entry := range os.Environ() {
			name, value, _ := strings.Cut(entry, "=")
			environ[name] = value
		}
		status := Run(ctx, Invocation{
			Program: os.Args[0], Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: environ,
		})
		stop()
		os.Exit(status)
	}
	pgtest.Main(m)
}

// shell runs commands with one environment.
type shell struct {
	t       *testing.T
	environ map[string]string
}

// result is what a command left.
type result struct {
	t              *testing.T
	command        string
	status         int
	stdout, stderr string
}

func (s shell) with(name, value string) shell {
	environ := maps.Clone(s.environ)
	if environ == nil {
		environ = map[string]string{}
	}
	environ[name] = value
	return shell{s.t, environ}
}

// run runs a command whose words hold no spaces, with nothing on standard input.
func (s shell) run(command string) result { return s.pipe("", strings.Fields(command)...) }

func (s shell) pipe(stdin string, args ...string) result {
	return s.read(strings.NewReader(stdin), args...)
}

func (s shell) read(stdin io.Reader, args ...string) result {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	status := Run(s.t.Context(), Invocation{
		Program: "sealkeep", Args: args, Stdin: stdin, Stdout: &stdout, Stderr: &stderr, Environ: s.environ,
	})
	return result{s.t, strings.Join(args, " "), status, stdout.String(), stderr.String()}
}

// ok requires success.
func (r result) ok() result {
	r.t.Helper()
	return r.ends(0)
}

// ends requires an exit status.
func (r result) ends(status int) result {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("%s: exit status %d, want %d\n%s%s", r.command, r.status, status, r.stdout, r.stderr)
	}
	return r
}

// says requires texts on standard error.
func (r result) says(texts ...string) result {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			r.t.Errorf("%s: %q is not in:\n%s", r.command, text, r.stderr)
		}
	}
	return r
}

// shows requires texts on standard output.
func (r result) shows(texts ...string) result {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.stdout, text) {
			r.t.Errorf("%s: %q is not in:\n%s", r.command, text, r.stdout)
		}
	}
	return r
}

// hides requires that texts are on neither stream.
func (r result) hides(texts ...string) result {
	r.t.Helper()
	for _, text := range texts {
		if strings.Contains(r.stdout+r.stderr, text) {
			r.t.Errorf("%s: %q is in:\n%s%s", r.command, text, r.stdout, r.stderr)
		}
	}
	return r
}

func newToken(t *testing.T) string {
	t.Helper()
	text, _, err := access.NewToken(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Release()
	return string(text.Reveal())
}
