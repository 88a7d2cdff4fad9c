package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// trailing is an API with an audit trail that grows: every request for it is recorded too, as the real one does.
type trailing struct {
	*httptest.Server
	mu      sync.Mutex
	records []string
	queries []string
}

func newTrailing(t *testing.T) *trailing {
	t.Helper()
	s := &trailing{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.queries = append(s.queries, r.URL.RawQuery)
		s.add("audit.read", r.Header.Get("X-Request-Id"))
		newest := make([]string, 0, len(s.records))
		for i := range s.records {
			newest = append(newest, s.records[len(s.records)-1-i])
		}
		_, _ = io.WriteString(w, `{"items":[`+strings.Join(newest, ",")+`]}`)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *trailing) add(action, requestID string) {
	seq := len(s.records) + 1
	s.records = append(s.records, fmt.Sprintf(`{"stream_id":"s","seq":%d,"at":"2026-01-02T03:04:%02d.5Z","actor":"ci",`+
		`"client_ip":"127.0.0.1","action":%q,"secret_name":"app/key","version":2,"outcome":"ok","request_id":%q}`, seq, seq%60, action, requestID))
}

func (s *trailing) shell(t *testing.T) shell {
	return shell{t, map[string]string{"VAULT_ADDR": s.URL, "VAULT_TOKEN": newToken(t)}}
}

func TestAuditTail_NewestLastAndWithoutItself(t *testing.T) {
	t.Parallel()
	s := newTrailing(t)
	s.add("read", "r-1")
	s.add("verify", "r-2")
	r := s.shell(t).run("audit tail -n 7").ok().shows("ACTION", "read", "verify", "app/key version 2", "2026-01-02T03:04:01.500Z").
		hides("audit.read")
	if strings.Index(r.stdout, "read") > strings.Index(r.stdout, "verify") {
		t.Errorf("the newest is not last:\n%s", r.stdout)
	}
	if s.queries[0] != "limit=7" {
		t.Errorf("asked for %s", s.queries[0])
	}
	lines := s.shell(t).run("audit tail --json").ok()
	// What another tail asked for is shown.
	if n := strings.Count(lines.stdout, "\n"); n != 3 || !strings.HasPrefix(lines.stdout, `{"stream_id":"s","seq":1,`) {
		t.Errorf("%d lines:\n%s", n, lines.stdout)
	}
	s.shell(t).run("audit tail -n 0").ends(2)
	s.shell(t).run("audit tail -n 1001").ends(2)
}

func TestAuditTail_FollowsUntilInterruptedAndShowsEachOnce(t *testing.T) {
	t.Parallel()
	s := newTrailing(t)
	s.add("first", "r-1")
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	shown := make(chan string)
	done := make(chan int)
	go func() {
		done <- Run(ctx, Invocation{
			Args: strings.Fields("audit tail -f --json"), Stdin: strings.NewReader(""), Stderr: &out,
			Stdout:  writerFunc(func(p []byte) (int, error) { shown <- string(p); return len(p), nil }),
			Environ: s.shell(t).environ,
		})
	}()
	want := func(action string) {
		t.Helper()
		if line := <-shown; !strings.Contains(line, `"`+action+`"`) {
			t.Errorf("shows %s, not %s", line, action)
		}
	}
	want("first")
	for _, action := range []string{"second", "third"} {
		s.mu.Lock()
		s.add(action, "r")
		s.mu.Unlock()
		want(action)
	}
	cancel()
	if status := <-done; status != 0 {
		t.Errorf("status %d: %s", status, out.String())
	}
}
