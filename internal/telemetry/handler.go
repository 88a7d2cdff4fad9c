package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// readyTimeout bounds the answer to a readiness probe: probes give up after a second or a few.
	readyTimeout = time.Second
	// maxScrapes bounds how many scrapes run at once: each renders all metrics in memory.
	maxScrapes = 4
)

// NewHandler returns the handler of the telemetry listener: GET /livez, which answers as long as the process can;
// GET /readyz, which is 503 unless ready returns nil; and GET /metrics in Prometheus's formats. It needs no
// authentication, so the listener belongs on loopback or a private network.
func NewHandler(metrics prometheus.Gatherer, ready func(context.Context) error, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		if ready(ctx) != nil {
			answer(w, http.StatusServiceUnavailable, "not ready")
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		ErrorLog:            errorLog{log},
		ErrorHandling:       promhttp.ContinueOnError, // what could be gathered is worth more than none
		MaxRequestsInFlight: maxScrapes,
	}))
	return mux
}

func answer(w http.ResponseWriter, status int, word string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, word+"\n")
}

// errorLog is where promhttp tells of metrics that could not be gathered.
type errorLog struct{ log *slog.Logger }

func (e errorLog) Println(v ...any) {
	e.log.Warn("metrics could not be gathered in full", "error", fmt.Sprint(v...))
}
