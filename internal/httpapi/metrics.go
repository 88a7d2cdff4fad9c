package httpapi

import (
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the edge's. Their labels are bounded: patterns of routes, known methods, statuses.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	panics   prometheus.Counter
}

// newMetrics makes the metrics and registers them with r, unless it is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealkeep_httpapi_requests_total",
			Help: "Answered requests by route pattern, method and status.",
		}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sealkeep_httpapi_request_duration_seconds",
			Help:    "Time from a request's headers to the end of its answer, by route pattern and method.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route", "method"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sealkeep_httpapi_requests_in_flight",
			Help: "Requests that are being served.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sealkeep_httpapi_panics_total",
			Help: "Panics that were recovered while serving a request. Each is a defect.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.inFlight, m.panics} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// foldMethod gives the method if it is one of the standard ones. Clients can make up any other.
func foldMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return "other"
}

// seriesKey tells apart what requests are counted and logged under. It has few values: patterns, known methods, statuses
// that are really answered.
type seriesKey struct {
	route  string
	method string
	status int
}

// series is what is the same for all requests of a key: finding it costs less than making it.
type series struct {
	requests prometheus.Counter
	duration prometheus.Observer
	log      slog.Handler // writes the key's parts into each line
}

// allSeries are the series of all keys that have occurred.
type allSeries struct {
	metrics *metrics
	log     slog.Handler

	known  atomic.Pointer[map[seriesKey]*series] // is replaced, never changed
	adding sync.Mutex
}

func newAllSeries(m *metrics, log slog.Handler) *allSeries {
	s := &allSeries{metrics: m, log: log}
	s.known.Store(&map[seriesKey]*series{})
	return s
}

func (s *allSeries) of(key seriesKey) *series {
	if one, ok := (*s.known.Load())[key]; ok {
		return one
	}
	s.adding.Lock()
	defer s.adding.Unlock()
	known := *s.known.Load()
	if one, ok := known[key]; ok {
		return one
	}
	one := &series{
		requests: s.metrics.requests.WithLabelValues(key.route, key.method, strconv.Itoa(key.status)),
		duration: s.metrics.duration.WithLabelValues(key.route, key.method),
		log: s.log.WithAttrs([]slog.Attr{
			slog.String("method", key.method), slog.String("route", key.route), slog.Int("status", key.status),
		}),
	}
	known = maps.Clone(known)
	known[key] = one
	s.known.Store(&known)
	return one
}
