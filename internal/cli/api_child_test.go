package cli

import (
	"encoding/json"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/cli/dev"
	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// childOf runs an API process as its parent does, and gives what it reports.
func childOf(t *testing.T, environ map[string]string) (report dev.Report, stdin io.WriteCloser, done <-chan int) {
	t.Helper()
	in, stdin := io.Pipe()
	out, stdout := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		status := Run(t.Context(), Invocation{Args: []string{apiChildName}, Stdin: in, Stdout: stdout, Stderr: io.Discard, Environ: environ})
		_ = stdout.Close()
		ended <- status
	}()
	decoder := json.NewDecoder(out)
	if err := decoder.Decode(&report); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return report, stdin, ended
}

func childEnvironment(t *testing.T) map[string]string {
	d := pgtest.New(t)
	environ := operator(t, d).environ
	shell{t, environ}.run("init").ok()
	environ["VAULT_DATABASE_URL"] = d.URL("sealkeep_api")
	environ["VAULT_API_LISTEN"] = "127.0.0.1:0"
	environ["VAULT_TELEMETRY_LISTEN"] = "127.0.0.1:0"
	environ["VAULT_DRAIN_SECS"] = "5"
	return environ
}

func TestAPIChild_AnswersNobodyBeforeItsParentSaysSo(t *testing.T) {
	t.Parallel()
	report, stdin, done := childOf(t, childEnvironment(t))
	var told atomic.Bool
	answered := make(chan bool)
	go func() {
		_, err := get(t.Context(), "http://"+report.API+"/healthz")
		answered <- err == nil && told.Load()
	}()
	// Long enough for a process that doesn't wait to answer.
	time.Sleep(300 * time.Millisecond)
	told.Store(true)
	if _, err := io.WriteString(stdin, "go\n"); err != nil {
		t.Fatal(err)
	}
	if !<-answered {
		t.Error("it answered before it was told to, or not at all")
	}
	if _, err := get(t.Context(), "http://"+report.Telemetry+"/livez"); err != nil {
		t.Error(err)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if status := <-done; status != 0 {
		t.Errorf("status %d after its parent's end", status)
	}
}

func TestAPIChild_EndsWithItsParentBeforeItIsTold(t *testing.T) {
	t.Parallel()
	report, stdin, done := childOf(t, childEnvironment(t))
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if status := <-done; status != 0 {
		t.Errorf("status %d", status)
	}
	if _, err := get(t.Context(), "http://"+report.API+"/healthz"); err == nil {
		t.Error("somebody answers")
	}
}

func TestAPIChild_ReportsWhyItCantStart(t *testing.T) {
	t.Parallel()
	environ := childEnvironment(t)
	environ["VAULT_API_LISTEN"] = strings.TrimPrefix(newAnswering(t, 200, nil, "").URL, "http://")
	report, stdin, done := childOf(t, environ)
	defer stdin.Close()
	if status := <-done; status != 1 || !strings.Contains(report.Error, "VAULT_API_LISTEN") {
		t.Errorf("status %d: %+v", status, report)
	}
}
