package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/cli/dev"
	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// childOf runs a child as its parent does, and gives what it reports.
func childOf(t *testing.T, name string, environ map[string]string) (report dev.Report, stdin io.WriteCloser, done <-chan int) {
	t.Helper()
	in, stdin := io.Pipe()
	out, stdout := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		status := Run(t.Context(), Invocation{Args: []string{name}, Stdin: in, Stdout: stdout, Stderr: io.Discard, Environ: environ})
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

func childEnvironment(t *testing.T, login string) map[string]string {
	t.Helper()
	d := pgtest.New(t)
	environ := operator(t, d).environ
	shell{t, environ}.run("init").ok()
	environ["VAULT_DATABASE_URL"] = d.URL(login)
	environ["VAULT_API_LISTEN"] = "127.0.0.1:0"
	environ["VAULT_TELEMETRY_LISTEN"] = "127.0.0.1:0"
	environ["VAULT_DRAIN_SECS"] = "5"
	return environ
}

func TestAPIChild_AnswersNobodyBeforeItsParentSaysSo(t *testing.T) {
	t.Parallel()
	report, stdin, done := childOf(t, apiChildName, childEnvironment(t, "sealkeep_api"))
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", report.API)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// The address is bound, so the request is taken; it stays without a byte of an answer.
	answer := bufio.NewReader(conn)
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := answer.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("before it was told to, its answer was one, or ended with: %v", err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stdin, "go\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(answer, nil)
	if err != nil {
		t.Fatalf("the request got no answer: %v", err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("status %d", response.StatusCode)
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
	report, stdin, done := childOf(t, apiChildName, childEnvironment(t, "sealkeep_api"))
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
	environ := childEnvironment(t, "sealkeep_api")
	environ["VAULT_API_LISTEN"] = strings.TrimPrefix(newAnswering(t, 200, nil, "").URL, "http://")
	report, stdin, done := childOf(t, apiChildName, environ)
	defer stdin.Close()
	if status := <-done; status != 1 || !strings.Contains(report.Error, "VAULT_API_LISTEN") {
		t.Errorf("status %d: %+v", status, report)
	}
}

func TestRotatorChild_BeginsWhenItsParentSaysSoAndEndsWithIt(t *testing.T) {
	t.Parallel()
	report, stdin, done := childOf(t, rotatorChildName, childEnvironment(t, "sealkeep_rotator"))
	if report.API != "" || report.Telemetry == "" {
		t.Fatalf("it reports %+v", report)
	}
	if _, err := io.WriteString(stdin, "go\n"); err != nil {
		t.Fatal(err)
	}
	for answer := ""; !strings.HasPrefix(answer, "200 "); {
		var err error
		if answer, err = get(t.Context(), "http://"+report.Telemetry+"/readyz"); err != nil {
			t.Fatal(err)
		}
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if status := <-done; status != 0 {
		t.Errorf("status %d after its parent's end", status)
	}
}

func TestRotatorChild_ReportsWhyItCantStart(t *testing.T) {
	t.Parallel()
	environ := childEnvironment(t, "sealkeep_rotator")
	environ["VAULT_ROTATION_LEASE_SECS"] = "1"
	report, stdin, done := childOf(t, rotatorChildName, environ)
	defer stdin.Close()
	if status := <-done; status != 1 || !strings.Contains(report.Error, "VAULT_ROTATION_LEASE_SECS") {
		t.Errorf("status %d: %+v", status, report)
	}
}
