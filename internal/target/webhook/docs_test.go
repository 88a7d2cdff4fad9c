package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/target"
)

func document(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDocument_TableOfAnswersIsWhatIsDone(t *testing.T) {
	t.Parallel()
	rows := regexp.MustCompile("(?m)^\\| (`[2-5]\\d\\d`.*) \\| (\\w+) \\|").FindAllStringSubmatch(document(t), -1)
	statuses := 0
	for _, row := range rows {
		for _, m := range regexp.MustCompile("`([2-5]\\d\\d)`").FindAllStringSubmatch(row[1], -1) {
			statuses++
			status, _ := strconv.Atoi(m[1])
			err := judge(status)
			if status == http.StatusConflict {
				err = judgeConflict("older_generation")
			}
			if got := target.ClassOf(err); (err == nil && row[2] != "success") || (err != nil && string(got) != row[2]) {
				t.Errorf("the document says of %d that it is %s; it is %v", status, row[2], err)
			}
		}
	}
	if len(rows) != 6 || statuses < 20 {
		t.Errorf("%d rows with %d statuses were found", len(rows), statuses)
	}
}

var program = regexp.MustCompile("(?ms)^```go\n(package main\n.*?)^```$")

// startReceiver builds the document's receiver and starts it as a process of its own, with this signing secret.
func startReceiver(t *testing.T, key string) Config {
	t.Helper()
	m := program.FindStringSubmatch(document(t))
	if m == nil || strings.Count(m[1], `":8443"`) != 1 {
		t.Fatal("the document's receiver isn't what this test knows how to start")
	}
	dir, ca := t.TempDir(), newAuthority(t)
	cert := ca.issue(t, "127.0.0.1")
	private, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"main.go":  []byte(strings.Replace(m[1], `":8443"`, `os.Getenv("LISTEN")`, 1)),
		"go.mod":   []byte("module receiver\n\ngo 1.26\n"),
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "receiver", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for range 10 { // somebody else may take the port before the receiver does, which then ends
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := listener.Addr().String()
		_ = listener.Close()
		run := exec.Command("./receiver")
		run.Dir, run.Env = dir, append(os.Environ(), "LISTEN="+address, "SIGNING_SECRET="+key)
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = run.Wait()
			close(ended)
		}()
		t.Cleanup(func() {
			_ = run.Process.Kill()
			<-ended
		})
		if answers(address, roots, ended) {
			return Config{URL: "https://" + address + "/hook", CA: ca.pem, Allowed: loopback, Timeout: time.Hour}
		}
	}
	t.Fatal("the receiver never listened")
	return Config{}
}

// answers waits until the receiver accepts connections, and tells whether it does.
func answers(address string, roots *x509.CertPool, ended <-chan struct{}) bool {
	for {
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots})
		if err == nil {
			_ = conn.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestDocument_ReceiverDoesWhatTheDocumentAsks(t *testing.T) {
	t.Parallel()
	cfg := startReceiver(t, string(keyB))
	it := newTarget(t, cfg)
	send := func(step string, version, generation int64, signers ...[]byte) (Event, error) {
		e := event()
		e.ID, e.Step, e.Version, e.Generation, e.Value = uuid.New(), step, version, generation, sensitive.Bytes{}
		if step == StepApply {
			e.Value = sensitive.CopyString(strings.Repeat("v", int(version)))
		}
		return e, it.Send(t.Context(), e, keys(signers...))
	}
	first, err := send(StepApply, 2, 12, keyA, keyB)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := send(StepTest, 2, 12, keyB); err != nil {
		t.Error(err)
	}
	if _, err := send(StepApply, 3, 13, keyB); err != nil {
		t.Error(err)
	}
	if _, err := send(StepTest, 3, 13, keyB, keyA); err != nil {
		t.Error(err)
	}
	if err := it.Send(t.Context(), first, keys(keyB)); err != nil {
		t.Errorf("a repetition: %v", err)
	}
	if _, err := send(StepTest, 3, 14, keyB); err != nil {
		t.Errorf("a repetition did something: %v", err)
	}
	for name, tc := range map[string]struct {
		step                string
		version, generation int64
		key                 []byte
		class               target.Class
	}{
		"the same generation again":  {StepApply, 4, 13, keyB, target.Outdated},
		"an older one":               {StepApply, 4, 12, keyB, target.Outdated},
		"a test of an older one":     {StepTest, 2, 12, keyB, target.Outdated},
		"a version that isn't there": {StepTest, 2, 13, keyB, target.Transient},
		"a value that isn't there":   {StepApply, 0, 15, keyB, target.Permanent},
		"a signature of another key": {StepApply, 4, 15, keyA, target.Authentication},
	} {
		_, err := send(tc.step, tc.version, tc.generation, tc.key)
		if target.ClassOf(err) != tc.class || err == nil {
			t.Errorf("%s: %v, want %s", name, err, tc.class)
		}
	}
	if _, err := send(StepTest, 3, 13, keyB); err != nil {
		t.Errorf("what was refused did something: %v", err)
	}
	cfg.Clock = func() time.Time { return time.Now().Add(-6 * time.Minute) }
	if err := newTarget(t, cfg).Send(t.Context(), event(), keys(keyB)); target.ClassOf(err) != target.Authentication {
		t.Errorf("an old timestamp: %v", err)
	}
}

func TestDocument_ExampleOfABodyIsOne(t *testing.T) {
	t.Parallel()
	m := regexp.MustCompile("(?ms)^```json\n(.*?)^```$").FindStringSubmatch(document(t))
	if m == nil {
		t.Fatal("there is none")
	}
	e := event()
	e.Value = sensitive.CopyString("8Zr…")
	body, err := e.encode()
	if err != nil {
		t.Fatal(err)
	}
	flat := regexp.MustCompile(`\n *`).ReplaceAllString(strings.ReplaceAll(m[1], `": `, `":`), "")
	if got := regexp.MustCompile(` +}$`).ReplaceAllString(string(body.Reveal()), "}"); got != flat {
		t.Errorf("the document shows\n%s\nin the place of\n%s", flat, got)
	}
}
