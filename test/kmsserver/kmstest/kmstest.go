// Package kmstest starts the KMS for tests as a process of its own, and commands it.
//
// The process is this test's binary, started again: TestMain calls Serve first. It ends with the test, or when the test's process does.
package kmstest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/test/kmsserver/kmsd"
)

// marker tells a process that it is to be the server.
const marker = "SEALKEEP_KMS_SERVER"

// Region is where keys are made unless another is named.
const Region = "eu-central-1"

// Serve runs the server and ends the process if that is what it was started for; otherwise it gives this process the
// credentials that the server knows, and keeps the SDK from looking for others.
func Serve() {
	if os.Getenv(marker) == "" {
		for name, value := range map[string]string{
			"AWS_ACCESS_KEY_ID": kmsd.AccessKey, "AWS_SECRET_ACCESS_KEY": kmsd.SecretKey, "AWS_SESSION_TOKEN": "",
			"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "",
		} {
			if err := os.Setenv(name, value); err != nil {
				panic(err)
			}
		}
		return
	}
	if err := kmsd.Main(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kmsserver:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Server is a KMS that serves.
type Server struct {
	URL string

	control string
	file    string
	cmd     *exec.Cmd
	stdin   io.Closer
	client  *http.Client
}

// Start returns a server without keys. It ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		URL: "http://127.0.0.1:0", control: "http://127.0.0.1:0", file: filepath.Join(t.TempDir(), "keys.json"),
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute},
	}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

func (s *Server) start(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command(os.Args[0], "-listen", host(s.URL), "-control", host(s.control), "-file", s.file)
	s.cmd.Env = []string{marker + "=1"}
	s.cmd.Stderr = os.Stderr
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.stdin = stdin
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the KMS did not start: %v", err)
	}
	var at kmsd.Addresses
	if err := json.Unmarshal(line, &at); err != nil {
		t.Fatal(err)
	}
	s.URL, s.control = at.KMS, at.Control
}

func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	return u.Host
}

func (s *Server) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.stdin.Close()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Kill ends the server at once, in the middle of whatever it does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.stop()
}

// Restart brings a killed server back, at the same addresses and with the same keys.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.start(t)
}

// command sends a command.
func (s *Server) command(t testing.TB, name string, in, out any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, s.control+"/"+name, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("the command %s: %d %s %v", name, answer.StatusCode, content, err)
	}
	if out != nil {
		if err := json.Unmarshal(content, out); err != nil {
			t.Fatal(err)
		}
	}
}

// CreateKey makes a key and returns its ARN.
func (s *Server) CreateKey(t testing.TB, c kmsd.CreateKey) string {
	t.Helper()
	if c.Region == "" {
		c.Region = Region
	}
	var made kmsd.Change
	s.command(t, "create", c, &made)
	return made.ARN
}

// Replicate makes a replica of a multi-Region key in another Region and returns its ARN.
func (s *Server) Replicate(t testing.TB, arn, region string) string {
	t.Helper()
	var made kmsd.Change
	s.command(t, "replicate", kmsd.Change{ARN: arn, Region: region}, &made)
	return made.ARN
}

// Alias points an alias, with alias/ before it, at a key.
func (s *Server) Alias(t testing.TB, alias, arn string) {
	t.Helper()
	s.command(t, "alias", kmsd.Change{ARN: arn, Alias: alias}, nil)
}

// State sets a key's state: kmsd.Enabled, kmsd.Disabled, kmsd.PendingDeletion.
func (s *Server) State(t testing.TB, arn, state string) {
	t.Helper()
	s.command(t, "state", kmsd.Change{ARN: arn, State: state}, nil)
}

// Deny denies an action, such as Decrypt, on a key; Allow allows it again.
func (s *Server) Deny(t testing.TB, arn, action string) {
	t.Helper()
	s.command(t, "permit", kmsd.Change{ARN: arn, Action: action}, nil)
}

// Allow allows an action on a key that was denied.
func (s *Server) Allow(t testing.TB, arn, action string) {
	t.Helper()
	s.command(t, "permit", kmsd.Change{ARN: arn, Action: action, Allow: true}, nil)
}

// Rotate gives a key a new backing key.
func (s *Server) Rotate(t testing.TB, arn string) {
	t.Helper()
	s.command(t, "rotate", kmsd.Change{ARN: arn}, nil)
}

// RotatedAgo is Rotate, and says that it was a while ago.
func (s *Server) RotatedAgo(t testing.TB, arn string, ago time.Duration) {
	t.Helper()
	s.command(t, "rotate", kmsd.Change{ARN: arn, AgoSecs: int64(ago / time.Second)}, nil)
}

// Misbehave makes the server do something to every call; the zero value is to answer again.
func (s *Server) Misbehave(t testing.TB, f kmsd.Fault) {
	t.Helper()
	s.command(t, "fault", f, nil)
}

// Throttle makes the server take so many calls a second.
func (s *Server) Throttle(t testing.TB, rate float64) {
	t.Helper()
	s.Misbehave(t, kmsd.Fault{Throttle: &rate})
}

// Calls tells how many calls of an operation arrived since the server was started.
func (s *Server) Calls(t testing.TB, operation string) int {
	t.Helper()
	var calls map[string]int
	s.command(t, "calls", struct{}{}, &calls)
	return calls[operation]
}

// Environ is what a program needs in its environment to use a key of this server, besides the credentials.
func (s *Server) Environ(keyID string) map[string]string {
	return map[string]string{
		"VAULT_KMS_MODE": "aws", "VAULT_KMS_KEY_ID": keyID, "VAULT_LOCAL_MASTER_KEY": "", "AWS_REGION": Region, "AWS_ENDPOINT_URL_KMS": s.URL,
	}
}
