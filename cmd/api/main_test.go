package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
)

const masterKey = "f00dbabef00dbabef00dbabef00dbabef00dbabef00dbabef00dbabef00dbabe"

func TestMain(m *testing.M) { sealkeeptest.ProgramMain(m, main) }

func newVault(t *testing.T) (environ map[string]string, token string) {
	t.Helper()
	return sealkeeptest.ProgramEnviron(t, "sealkeep_api")
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
			p := sealkeeptest.StartProgram(t, environ)
			metrics, _ := p.Await(t, "listening", "listener", "telemetry")["address"].(string)
			api, _ := p.Await(t, "listening", "listener", "api")["address"].(string)
			for !ready(t, api) {
				if t.Context().Err() != nil {
					t.Fatal("it never became ready")
				}
			}
			conn, more := halfARequest(t, api, metrics, token)
			if err := p.Cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			p.Await(t, "stopping: what is in flight is being finished", "", "")
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
				t.Errorf("in flight and answered with %d %s\n%s", answer.StatusCode, body, p.Log.String())
			}
			if status := p.Status(t); status != 0 {
				t.Errorf("exited with %d:\n%s", status, p.Log.String())
			}
			if text := p.Log.String(); strings.Contains(text, "Zu8mQ4") || strings.Contains(text, token) || strings.Contains(text, environ["VAULT_LOCAL_MASTER_KEY"]) {
				t.Errorf("I1: the log holds a secret:\n%s", text)
			}
		})
	}
}

func TestLaterSignalEndsTheProgramAtOnce(t *testing.T) {
	t.Parallel()
	environ, token := newVault(t)
	p := sealkeeptest.StartProgram(t, environ)
	metrics, _ := p.Await(t, "listening", "listener", "telemetry")["address"].(string)
	api, _ := p.Await(t, "listening", "listener", "api")["address"].(string)
	halfARequest(t, api, metrics, token)
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.Await(t, "stopping: what is in flight is being finished", "", "")
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
				_ = p.Cmd.Process.Signal(syscall.SIGTERM)
			}
		}
	}()
	defer close(ended)
	if status := p.Status(t); status != 1 || strings.Contains(p.Log.String(), `"msg":"stopped`) {
		t.Errorf("exited with %d:\n%s", status, p.Log.String())
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
		"VAULT_DATABASE_URL": "postgres://u@" + place.Addr().String() + "/d", "VAULT_KMS_MODE": "local", "VAULT_LOCAL_MASTER_KEY": masterKey,
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
		p := sealkeeptest.StartProgram(t, map[string]string{"VAULT_LOG_LEVEL": "loud", "VAULT_LOCAL_MASTER_KEY": "canary", "VAULT_KMS_MODE": "local"})
		status, said := p.Status(t), p.Log.String()
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
		p := sealkeeptest.StartProgram(t, map[string]string{
			"VAULT_DATABASE_URL": d.URL("sealkeep_api"), "VAULT_KMS_MODE": "local", "VAULT_LOCAL_MASTER_KEY": masterKey,
		})
		line := p.Await(t, "can't start", "", "")
		if said, _ := line["error"].(string); !strings.Contains(said, "run `sealkeep init`") || strings.Contains(said, "\n") {
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
