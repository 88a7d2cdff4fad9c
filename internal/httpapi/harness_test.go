package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/vault"
)

// edge is the whole handler over a vault that is never reached: a test that does reach it gets a 500.
type edge struct {
	*api
	registry *prometheus.Registry
	log      *logBuffer
}

func newEdge(t *testing.T, change ...func(*Config)) *edge {
	t.Helper()
	e := &edge{registry: prometheus.NewRegistry(), log: &logBuffer{}}
	cfg := Config{
		Log:     slog.New(slog.NewJSONHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: e.registry,
		Version: "test",
		Ready:   func(context.Context) error { return nil },
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if e.api, err = newAPI(&vault.Vault{}, cfg); err != nil {
		t.Fatal(err)
	}
	return e
}

// route adds a route whose handler is the test's.
func (e *edge) route(r route, handle func(context.Context, *exchange) error) {
	r.handle = func(_ *api, ctx context.Context, x *exchange) error { return handle(ctx, x) }
	e.engine.Handle(r.method, ginPath(r.pattern), e.onRoute(r))
}

func (e *edge) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w
}

// request makes a request as a server would have parsed it. target is as on the request line.
func request(method, target, body string, header ...string) *http.Request {
	var r *http.Request
	if body == "" {
		r = httptest.NewRequest(method, target, nil)
	} else {
		r = httptest.NewRequest(method, target, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

type errorBody struct {
	Error     string `json:"error"`
	Code      string `json:"code"`
	RequestID string `json:"request_id"`
}

// wantError checks that an answer is an error as every error must be, and gives it.
func wantError(t *testing.T, w *httptest.ResponseRecorder, status int) errorBody {
	t.Helper()
	var e errorBody
	if w.Code != status {
		t.Errorf("the status is %d, want %d: %s", w.Code, status, w.Body)
	}
	dec := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		t.Fatalf("the body is no error: %v: %s", err, w.Body)
	}
	if e.Error == "" || e.Code == "" || e.RequestID == "" {
		t.Errorf("the error is incomplete: %s", w.Body)
	}
	if got := w.Header().Get("X-Request-Id"); got != e.RequestID {
		t.Errorf("X-Request-Id is %q, and the body says %q", got, e.RequestID)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type is %q", got)
	}
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	return e
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// lines gives what was logged.
func (l *logBuffer) lines(t *testing.T) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(l.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// metric gives the value of the one series of a counter or gauge with these labels, or 0.
func (e *edge) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := e.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	series:
		for _, m := range family.GetMetric() {
			got := map[string]string{}
			for _, l := range m.GetLabel() {
				got[l.GetName()] = l.GetValue()
			}
			for i := 0; i+1 < len(labels); i += 2 {
				if got[labels[i]] != labels[i+1] {
					continue series
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return 0
}
