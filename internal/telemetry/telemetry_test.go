package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func lines(t *testing.T, out *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(out.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%q is not a line of JSON: %v", line, err)
		}
		all = append(all, fields)
	}
	return all
}

func TestLogLineIsOneJSONObject(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := NewLogger(&out, slog.LevelInfo)
	log.Debug("dropped")
	log.Info("a\nb \xff", "forged", "x\"}\n{\"level\":\"ERROR\"", "at", time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("x", 3600)))
	got := lines(t, &out)
	if len(got) != 1 || got[0]["forged"] != "x\"}\n{\"level\":\"ERROR\"" || got[0]["level"] != "INFO" {
		t.Errorf("got %v", got)
	}
	if at, _ := got[0]["time"].(string); !strings.HasSuffix(at, "Z") || got[0]["at"] != "2026-01-02T02:04:05Z" {
		t.Errorf("times are not in UTC: %v", got[0])
	}
}

func TestLogLineCarriesTheRequestID(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := NewLogger(&out, slog.LevelInfo).With("part", "audit")
	ctx := WithRequestID(context.Background(), "r-1")
	log.InfoContext(ctx, "with")
	log.InfoContext(context.Background(), "without")
	log.WithGroup("g").InfoContext(ctx, "grouped", "a", 1)
	got := lines(t, &out)
	if got[0]["request_id"] != "r-1" || got[0]["part"] != "audit" {
		t.Errorf("got %v", got[0])
	}
	if _, there := got[1]["request_id"]; there {
		t.Errorf("got %v", got[1])
	}
	if group, _ := got[2]["g"].(map[string]any); group["request_id"] != "r-1" || group["a"] != 1.0 {
		t.Errorf("got %v", got[2])
	}
	if RequestID(ctx) != "r-1" || RequestID(context.Background()) != "" {
		t.Error("RequestID differs")
	}
}

func TestI1_LogRedactsSensitiveBytes(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	holder := struct{ inner sensitive.Bytes }{sensitive.CopyString("canary")}
	NewLogger(&out, slog.LevelInfo).With("with", holder).Info("x", "direct", holder.inner, "within", holder, "pointer", &holder)
	if strings.Contains(out.String(), "canary") || !strings.Contains(out.String(), sensitive.Redacted) {
		t.Error(out.String())
	}
}

func get(t *testing.T, h http.Handler, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
	return w.Code, w.Body.String()
}

func TestProbes(t *testing.T) {
	t.Parallel()
	var broken error
	h := NewHandler(NewRegistry("api", "v1.2.3"), func(ctx context.Context) error {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("a readiness check has no deadline")
		}
		return broken
	}, slog.New(slog.DiscardHandler))

	if code, body := get(t, h, "GET", "/readyz"); code != 200 || body != "ready\n" {
		t.Errorf("ready: %d %q", code, body)
	}
	t.Run("I11: a process that isn't ready says nothing of why", func(t *testing.T) {
		broken = errors.New("the database said: canary")
		if code, body := get(t, h, "GET", "/readyz"); code != 503 || body != "not ready\n" {
			t.Errorf("not ready: %d %q", code, body)
		}
		if code, _ := get(t, h, "GET", "/livez"); code != 200 {
			t.Errorf("alive, not ready: %d", code)
		}
	})
	t.Run("nothing else is served", func(t *testing.T) {
		for path, want := range map[string]int{"/": 404, "/v1/secrets": 404, "/debug/pprof/": 404} {
			if code, _ := get(t, h, "GET", path); code != want {
				t.Errorf("%s: %d", path, code)
			}
		}
		if code, _ := get(t, h, "POST", "/livez"); code != 405 {
			t.Errorf("POST: %d", code)
		}
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := NewRegistry("api", "v1.2.3")
	h := NewHandler(registry, func(context.Context) error { return nil }, slog.New(slog.DiscardHandler))
	_, body := get(t, h, "GET", "/metrics")
	for _, want := range []string{`sealkeep_build_info{go_version="go`, `program="api",version="v1.2.3"} 1`, "go_goroutines"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	t.Run("that fail are logged, and the others served", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		registry := NewRegistry("api", "v1.2.3")
		registry.MustRegister(failing{})
		h := NewHandler(registry, nil, NewLogger(&out, slog.LevelInfo))
		if code, body := get(t, h, "GET", "/metrics"); code != 200 || !strings.Contains(body, "sealkeep_build_info") {
			t.Errorf("%d %s", code, body)
		}
		if got := lines(t, &out); len(got) != 1 || got[0]["level"] != "WARN" || !strings.Contains(fmt.Sprint(got[0]["error"]), "can't be read") {
			t.Errorf("got %v", got)
		}
	})
}

type failing struct{}

func (failing) Describe(chan<- *prometheus.Desc) {}

func (failing) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.NewInvalidMetric(prometheus.NewDesc("failing", "fails", nil, nil), errors.New("can't be read"))
}
