package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// asProgram makes this test's binary the program itself.
const asProgram = "SEALKEEP_TEST_AS_API"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	pgtest.Main(m)
}

const masterKey = "f00dbabef00dbabef00dbabef00dbabef00dbabef00dbabef00dbabef00dbabe"

// program is the program, running.
type program struct {
	cmd   *exec.Cmd
	lines chan map[string]any // of its log
	log   bytes.Buffer        // complete once lines is closed
}

func start(t *testing.T, environ []string, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), self, args...), lines: make(chan map[string]any, 1000)}
	p.cmd.Env = append([]string{asProgram + "=1"}, environ...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // if a failed test left it
		_ = p.cmd.Wait()
	})
	go func() {
		defer close(p.lines)
		scanner := bufio.NewScanner(stderr)
		for scanner.Scan() {
			p.log.WriteString(scanner.Text() + "\n")
			var line map[string]any
			if json.Unmarshal(scanner.Bytes(), &line) == nil {
				p.lines <- line
			}
		}
	}()
	return p
}

// await returns the first line of the log that comes with this message.
func (p *program) await(t *testing.T, message, key, value string) map[string]any {
	t.Helper()
	for line := range p.lines {
		if line["msg"] == message && (key == "" || line[key] == value) {
			return line
		}
	}
	t.Fatalf("the program ended without %q:\n%s", message, p.log.String())
	return nil
}

// status waits for the program's end.
func (p *program) status(t *testing.T) int {
	t.Helper()
	for range p.lines { // to the end of its log
	}
	err := p.cmd.Wait()
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

// newVault returns the environment of an initialised vault and its admin token.
func newVault(t *testing.T) (environ []string, token string) {
	t.Helper()
	d := pgtest.New(t)
	settings := map[string]string{
		"VAULT_DATABASE_URL": d.URL("sealkeep_operator"), "VAULT_KMS_MODE": "local", "VAULT_LOCAL_MASTER_KEY": masterKey,
		"VAULT_API_LISTEN": "127.0.0.1:0", "VAULT_TELEMETRY_LISTEN": "127.0.0.1:0", "VAULT_ALLOWED_IPS": "127.0.0.1", "VAULT_PG_MAX_CONNS": "4",
	}
	cfg, err := boot.LoadOffline(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer cfg.Release()
	database, keeper, release, err := boot.OpenOffline(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	issued, err := vault.Init(t.Context(), database, keeper, cfg.BootstrapToken, vault.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer issued.Release()
	settings["VAULT_DATABASE_URL"] = d.URL("sealkeep_api")
	for name, value := range settings {
		environ = append(environ, name+"="+value)
	}
	return environ, string(issued.Token.Reveal())
}

// halfARequest opens a connection and sends the first half of a request that creates a secret; more holds the rest. When
// it returns, the program is at work on it.
func halfARequest(t *testing.T, api, metrics, token string) (conn net.Conn, more string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", api)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	body := `{"name":"a","kind":"manual","value":"Zu8mQ4-in-flight"}`
	_, err = fmt.Fprintf(conn, "POST /v1/secrets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		token, len(body), body[:10])
	if err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(scrape(t, metrics), "\nsealkeep_httpapi_requests_in_flight 1\n") {
		if t.Context().Err() != nil {
			t.Fatal("the request never arrived")
		}
	}
	return conn, body[10:]
}

func scrape(t *testing.T, metrics string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+metrics+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ready tells whether a process serves.
func ready(t *testing.T, api string) bool {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+api+"/readyz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

func TestTerminationFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			environ, token := newVault(t)
			p := start(t, environ)
			metrics, _ := p.await(t, "listening", "listener", "telemetry")["address"].(string)
			api, _ := p.await(t, "listening", "listener", "api")["address"].(string)
			for !ready(t, api) {
				if t.Context().Err() != nil {
					t.Fatal("it never became ready")
				}
			}
			conn, more := halfARequest(t, api, metrics, token)
			if err := p.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			p.await(t, "stopping: what is in flight is being finished", "", "")
			if _, err := io.WriteString(conn, more); err != nil {
				t.Fatal(err)
			}
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusCreated || !strings.Contains(string(body), "Zu8mQ4-in-flight") {
				t.Errorf("in flight and answered with %d %s\n%s", answer.StatusCode, body, p.log.String())
			}
			if status := p.status(t); status != 0 {
				t.Errorf("exited with %d:\n%s", status, p.log.String())
			}
			if text := p.log.String(); strings.Contains(text, "Zu8mQ4") || strings.Contains(text, token) || strings.Contains(text, masterKey) {
				t.Errorf("I1: the log holds a secret:\n%s", text)
			}
		})
	}
}

func TestLaterSignalEndsTheProgramAtOnce(t *testing.T) {
	t.Parallel()
	environ, token := newVault(t)
	p := start(t, environ)
	metrics, _ := p.await(t, "listening", "listener", "telemetry")["address"].(string)
	api, _ := p.await(t, "listening", "listener", "api")["address"].(string)
	halfARequest(t, api, metrics, token)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.await(t, "stopping: what is in flight is being finished", "", "")
	// The drain takes 20 s; what comes within a second is the same wish still.
	ended := make(chan struct{})
	go func() {
		again := time.NewTicker(100 * time.Millisecond)
		defer again.Stop()
		for {
			select {
			case <-ended:
				return
			case <-again.C:
				_ = p.cmd.Process.Signal(syscall.SIGTERM)
			}
		}
	}()
	defer close(ended)
	if status := p.status(t); status != 1 || strings.Contains(p.log.String(), `"msg":"stopped`) {
		t.Errorf("exited with %d:\n%s", status, p.log.String())
	}
}

func TestSignalDuringTheStartIsNoFailure(t *testing.T) {
	t.Parallel()
	place, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = place.Close() // no database is there
	p := start(t, []string{
		"VAULT_DATABASE_URL=postgres://u@" + place.Addr().String() + "/d", "VAULT_KMS_MODE=local", "VAULT_LOCAL_MASTER_KEY=" + masterKey,
	})
	p.await(t, "waiting for the database", "", "")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := p.status(t); status != 0 {
		t.Errorf("exited with %d:\n%s", status, p.log.String())
	}
}

func TestProgramThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	t.Run("all of it, in its configuration", func(t *testing.T) {
		t.Parallel()
		p := start(t, []string{"VAULT_LOG_LEVEL=loud", "VAULT_LOCAL_MASTER_KEY=canary", "VAULT_KMS_MODE=local"})
		status, said := p.status(t), p.log.String()
		if status != 1 || strings.Contains(said, "canary") {
			t.Errorf("exited with %d:\n%s", status, said)
		}
		for _, variable := range []string{"VAULT_LOG_LEVEL", "VAULT_LOCAL_MASTER_KEY", "VAULT_DATABASE_URL"} {
			if !strings.Contains(said, "\n  "+variable+": ") {
				t.Errorf("no word of %s:\n%s", variable, said)
			}
		}
	})
	t.Run("in one line, about its database", func(t *testing.T) {
		t.Parallel()
		d := pgtest.New(t)
		p := start(t, []string{"VAULT_DATABASE_URL=" + d.URL("sealkeep_api"), "VAULT_KMS_MODE=local", "VAULT_LOCAL_MASTER_KEY=" + masterKey})
		line := p.await(t, "can't start", "", "")
		if said, _ := line["error"].(string); !strings.Contains(said, "run `sealkeep init`") || strings.Contains(said, "\n") {
			t.Errorf("got %v", line)
		}
		if status := p.status(t); status != 1 {
			t.Errorf("exited with %d", status)
		}
	})
}

func TestArguments(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		status         int
		stdout, stderr string
	}{
		"--version":      {0, "sealkeep api ", ""},
		"--help":         {0, "* VAULT_LOCAL_MASTER_KEY\n", ""},
		"-h":             {0, "VAULT_ALLOWED_IPS", ""},
		"--hepl":         {2, "", "takes no arguments"},
		"serve":          {2, "", "takes no arguments"},
		"--version more": {2, "", "takes no arguments"},
	} {
		var stdout, stderr strings.Builder
		status := inform(strings.Fields(args), &stdout, &stderr)
		if status != want.status || !strings.Contains(stdout.String(), want.stdout) || !strings.Contains(stderr.String(), want.stderr) ||
			(want.stdout == "") != (stdout.Len() == 0) || (want.stderr == "") != (stderr.Len() == 0) {
			t.Errorf("%s: %d %q %q", args, status, stdout.String(), stderr.String())
		}
		if strings.Contains(stdout.String(), "VAULT_BOOTSTRAP_TOKEN") {
			t.Errorf("%s lists what another program reads", args)
		}
	}
	t.Run("end the program", func(t *testing.T) {
		t.Parallel()
		if status := start(t, nil, "--unknown").status(t); status != 2 {
			t.Errorf("exited with %d", status)
		}
	})
}
