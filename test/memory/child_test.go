//go:build linux

package memory

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// build builds the API server as `make build` does, with or without the experiment. Without root its memory can be read only
// if it isn't hardened against that.
func build(t *testing.T, experiment string) string {
	t.Helper()
	program := "github.com/sealkeep/sealkeep/cmd/api"
	if os.Geteuid() != 0 {
		program = "github.com/sealkeep/sealkeep/test/memory/dumpable"
	}
	binary := filepath.Join(t.TempDir(), "api")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", binary, program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOEXPERIMENT="+experiment)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", program, err, out)
	}
	return binary
}

// child is an API process of its own, on the database of a vault that was stopped.
type child struct {
	t       *testing.T
	cmd     *exec.Cmd
	api     string
	metrics string
	token   string
	client  *http.Client
}

func start(t *testing.T, binary string, v *vaulttest.Vault, environ map[string]string) *child {
	t.Helper()
	all := v.OfflineEnviron()
	maps.Copy(all, map[string]string{
		"VAULT_DATABASE_URL": v.DB.URL("sealkeep_api"), "VAULT_API_LISTEN": "127.0.0.1:0", "VAULT_TELEMETRY_LISTEN": "127.0.0.1:0",
		"VAULT_ALLOWED_IPS": "127.0.0.1", "VAULT_READ_AUTH": "ip", "VAULT_DEK_CACHE_TTL_SECS": cacheTTL,
		"GOGC": "20", // collections come soon, also if there are few requests
	})
	maps.Copy(all, environ)
	c := &child{t: t, cmd: exec.Command(binary), token: v.AdminToken, client: &http.Client{Transport: &http.Transport{}}}
	for name, value := range all {
		c.cmd.Env = append(c.cmd.Env, name+"="+value)
	}
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	drained := make(chan struct{})
	t.Cleanup(func() {
		c.client.CloseIdleConnections()
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		<-drained
		_ = c.cmd.Wait()
	})
	for c.api == "" || c.metrics == "" {
		var line struct{ Msg, Listener, Address string }
		if !lines.Scan() {
			close(drained)
			t.Fatal("the server ended before it listened")
		}
		_ = json.Unmarshal(lines.Bytes(), &line)
		switch {
		case line.Msg == "listening" && line.Listener == "api":
			c.api = "http://" + line.Address
		case line.Msg == "listening":
			c.metrics = "http://" + line.Address + "/metrics"
		case line.Msg == "can't start":
			t.Log(lines.Text())
		}
	}
	go func() {
		defer close(drained)
		for lines.Scan() { // a full pipe would stop it
		}
	}()
	vaulttest.Eventually(t, "the server is ready", func() bool {
		answer, err := c.client.Get(c.api + "/readyz")
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	return c
}

// do sends a request that has to succeed, and returns the body of its answer.
func (c *child) do(method, path, body string) string {
	c.t.Helper()
	text, err := c.try(method, path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

func (c *child) try(method, path, body string) (string, error) {
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.api+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := c.client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s %s: status %d", method, path, answer.StatusCode)
	}
	return string(text), err
}

func (c *child) read(name string) string { return c.do(http.MethodGet, "/v1/secrets/"+name, "") }

func (c *child) create(name, value string) {
	c.t.Helper()
	c.do(http.MethodPost, "/v1/secrets", fmt.Sprintf(`{"name":%q,"kind":"manual","value":%q}`, name, value))
}

// metric reads a metric of one series.
func (c *child) metric(name string) float64 {
	c.t.Helper()
	answer, err := c.client.Get(c.metrics)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(text)
	if m == nil {
		c.t.Fatalf("there is no metric %s", name)
	}
	value, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return value
}

// paused runs f while the process stands still.
func (c *child) paused(f func()) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	stat := fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid)
	vaulttest.Eventually(c.t, "the process stands still", func() bool {
		text, err := os.ReadFile(stat)
		_, after, _ := strings.Cut(string(text), ") ")
		return err == nil && strings.HasPrefix(after, "T")
	})
	defer func() { _ = c.cmd.Process.Signal(syscall.SIGCONT) }()
	f()
}

// collections waits until the process has collected its garbage at least twice more, for which requests make garbage.
func (c *child) collections(request func()) {
	c.t.Helper()
	const collected = "go_gc_duration_seconds_count"
	until := c.metric(collected) + 3 // one may be under way, and began before
	deadline := time.Now().Add(2 * time.Minute)
	for c.metric(collected) < until {
		if time.Now().After(deadline) {
			c.t.Fatal("no collection comes")
		}
		for range 50 {
			request()
		}
	}
}
