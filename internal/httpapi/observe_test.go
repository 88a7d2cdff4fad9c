package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/telemetry"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func TestPanics(t *testing.T) {
	t.Parallel()
	panicking := func(t *testing.T, value any) (*edge, *httptest.ResponseRecorder) {
		e := newEdge(t)
		e.route(route{method: "GET", pattern: "/v1/panics"}, func(context.Context, *exchange) error { panic(value) })
		return e, e.do(request("GET", "/v1/panics", ""))
	}
	t.Run("a panic is a 500, logged with its stack and counted", func(t *testing.T) {
		t.Parallel()
		e, w := panicking(t, errors.New("index out of range"))
		wantError(t, w, 500)
		if strings.Contains(w.Body.String(), "index") {
			t.Errorf("it is told: %s", w.Body)
		}
		line := e.log.lines(t)[0]
		stack := fmt.Sprint(line["stack"])
		if line["level"] != "ERROR" || !strings.Contains(fmt.Sprint(line["error"]), "index out of range") ||
			!strings.Contains(stack, "TestPanics") {
			t.Errorf("the log line is %v", line)
		}
		if strings.Contains(stack, "0x") {
			t.Errorf("the stack shows arguments: %s", stack)
		}
		if n := e.metric(t, "sealkeep_httpapi_panics_total"); n != 1 {
			t.Errorf("%v panics were counted", n)
		}
		if n := e.metric(t, "sealkeep_httpapi_requests_in_flight"); n != 0 {
			t.Errorf("%v requests are in flight", n)
		}
	})
	t.Run("a value that panics is named by its type alone", func(t *testing.T) {
		t.Parallel()
		e, w := panicking(t, struct{ plaintext string }{canary})
		wantError(t, w, 500)
		if strings.Contains(e.log.String(), canary) {
			t.Errorf("it is logged: %s", e.log)
		}
	})
	t.Run("a panic within an answer cuts the connection", func(t *testing.T) {
		t.Parallel()
		e := newEdge(t)
		e.route(route{method: "GET", pattern: "/v1/half"}, func(_ context.Context, x *exchange) error {
			x.out.Header().Set("Content-Length", "100")
			_, _ = x.out.Write([]byte("half of it"))
			panic("oh")
		})
		defer func() {
			if got := recover(); got != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				t.Errorf("it ends with %v", got)
			}
			if n := e.metric(t, "sealkeep_httpapi_panics_total"); n != 1 {
				t.Errorf("%v panics were counted", n)
			}
		}()
		e.do(request("GET", "/v1/half", ""))
		t.Error("it ends as if whole")
	})
}

func TestEveryRequestHasItsLine(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	e := newEdge(t, func(c *Config) {
		c.Clock = func() time.Time { now = now.Add(1500 * time.Microsecond); return now }
	})
	e.route(route{method: "POST", pattern: "/v1/things/{name}", body: bodyRequired}, func(_ context.Context, x *exchange) error {
		return fault.Wrap(fault.Denied, errors.New("the reason"), "not allowed")
	})
	r := request("POST", "/v1/things/"+canary, `{"value":"`+canary+`"}`, "X-Request-Id", "i", "Authorization", "Bearer "+canary)
	r.RemoteAddr = "192.0.2.1:4711"
	e.do(r)
	want := map[string]any{
		"level": "INFO", "msg": "request", "request_id": "i", "method": "POST", "route": "/v1/things/{name}", "status": 403.0,
		"duration_ms": 1.5, "token": true, "client": "192.0.2.1", "code": "forbidden",
		"error": "denied: not allowed: the reason",
	}
	lines := e.log.lines(t)
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	for k, v := range want {
		if lines[0][k] != v {
			t.Errorf("%s is %v; want %v", k, lines[0][k], v)
		}
	}
	if len(lines[0]) != len(want)+1 { // and the time
		t.Errorf("there is more: %v", lines[0])
	}
	if strings.Contains(e.log.String(), canary) {
		t.Errorf("a token, path or body is logged: %s", e.log)
	}
}

func TestRequestsAreCountedUnderBoundedLabels(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for _, c := range []struct{ method, target, route, counted, status string }{
		{"GET", "/v1/secrets/a/b?x=1", "/v1/secrets/{name}", "GET", "400"},
		{"GET", "/v1/secrets/a//b", "/v1/secrets/{name}", "GET", "400"},
		{"PATCH", "/v1/secrets/a/rotate", "unmatched", "PATCH", "405"},
		{"PUT", "/v1/secrets/a/rotate", "/v1/secrets/{name}/rotate", "PUT", "405"},
		{"GET", "/v1/nothing/" + canary, "unmatched", "GET", "404"},
		{canary, "/v1/status", "unmatched", "other", "405"},
		{"GET", "/v1/roles/a?x=1", "/v1/roles/{name}", "GET", "400"},
		{"GET", "/healthz", "/healthz", "GET", "200"},
	} {
		e.do(request(c.method, c.target, ""))
		if n := e.metric(t, "sealkeep_httpapi_requests_total", "route", c.route, "method", c.counted, "status", c.status); n == 0 {
			t.Errorf("%s %s is not counted as %s %s %s", c.method, c.target, c.counted, c.route, c.status)
		}
	}
}

func TestAClientThatLeftIsNoError(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.route(route{method: "GET", pattern: "/v1/slow"}, func(ctx context.Context, _ *exchange) error { return ctx.Err() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.do(request("GET", "/v1/slow", "").WithContext(ctx))
	if line := e.log.lines(t)[0]; line["level"] != "INFO" || line["client_gone"] != true {
		t.Errorf("the log line is %v", line)
	}
}

func TestTheContextOfARequest(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.route(route{method: "GET", pattern: "/v1/limited"}, func(ctx context.Context, x *exchange) error {
		if _, limited := ctx.Deadline(); !limited {
			t.Error("it has no time limit")
		}
		if id := telemetry.RequestID(ctx); id != x.id {
			t.Errorf("lines logged with it have the request id %q, not %q", id, x.id)
		}
		return x.empty()
	})
	e.do(request("GET", "/v1/limited", ""))
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := New(nil, Config{}); err == nil {
		t.Error("no vault is accepted")
	}
	registry := prometheus.NewRegistry()
	for i, want := range []bool{true, false} {
		if _, err := New(&vault.Vault{}, Config{Metrics: registry}); (err == nil) != want {
			t.Errorf("handler %d on one registry: %v", i+1, err)
		}
	}
}
