package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
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
		if limit, _ := strconv.Atoi(r.URL.Query().Get("limit")); limit < len(newest) {
			newest = newest[:limit]
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

func TestAuditTail_ColumnsLineUpAndNameTheObject(t *testing.T) {
	t.Parallel()
	const record = `{"stream_id":"s","seq":%d,"at":"2026-01-02T03:04:05Z","actor":"address:192.168.100.200",` +
		`"client_ip":"192.168.100.200","action":%q,"secret_name":%s,"outcome":"precondition_failed","detail":%s}`
	server := newAnswering(t, 200, nil, `{"items":[`+strings.Join([]string{
		fmt.Sprintf(record, 4, "audit.denials_counted", "null", `[1]`),
		fmt.Sprintf(record, 3, "secret.list", `"app/key"`, `{"role":"no"}`),
		fmt.Sprintf(record, 2, "token.create", "null", `{"role":"reader","token":"ci"}`),
		fmt.Sprintf(record, 1, "role.set_permissions", "null", `{"role":"reader"}`),
	}, ",")+`]}`)
	lines := strings.Split(server.shell(t).run("audit tail").ok().stdout, "\n")
	for i, want := range []string{"OBJECT", "role reader", "token ci", "app/key", ""} {
		column := strings.Index(lines[0], "OBJECT")
		if len(lines[i]) < column || lines[i][column:] != want || lines[i][column-1] != ' ' {
			t.Errorf("line %d doesn't have %q in column %d: %q", i, want, column, lines[i])
		}
	}
}

func TestAuditTail_FollowIsQuietUnlessAllIsAskedFor(t *testing.T) {
	t.Parallel()
	s := newTrailing(t)
	s.add("audit.heartbeat", "-")
	s.shell(t).run("audit tail").ok().shows("audit.heartbeat").hides("audit.read")
	s.shell(t).run("audit tail --all -n 1").ok().shows("audit.read")
	for _, c := range []struct {
		all  bool
		want string
	}{{false, "shown"}, {true, "audit.heartbeat shown"}} {
		tail := &tail{id: "tail-x", all: c.all, quiet: !c.all, seen: map[place]time.Time{}}
		var got []string
		for _, action := range []string{"audit.heartbeat", "shown"} {
			if !tail.hides(&event{Action: action}) {
				got = append(got, action)
			}
		}
		if strings.Join(got, " ") != c.want || tail.hides(&event{RequestID: "tail-x-1"}) == c.all {
			t.Errorf("all %t: shows %v", c.all, got)
		}
	}
}

func TestAuditTail_FollowsUntilInterruptedAndShowsEachOnce(t *testing.T) {
	t.Parallel()
	s := newTrailing(t)
	s.add("older than what is asked for", "r-0")
	s.add("first", "r-1")
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	shown := make(chan string)
	done := make(chan int)
	go func() {
		done <- Run(ctx, Invocation{
			Args: strings.Fields("audit tail -f -n 2 --json"), Stdin: strings.NewReader(""), Stderr: &out,
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
		s.add("audit.heartbeat", "-")
		s.records = append(s.records, fmt.Sprintf(`{"stream_id":"late","seq":%d,"at":"2026-01-02T03:04:00Z","action":"late"}`, len(s.records)))
		s.add(action, "r")
		s.mu.Unlock()
		want(action)
	}
	cancel()
	if status := <-done; status != 0 {
		t.Errorf("status %d: %s", status, out.String())
	}
}
