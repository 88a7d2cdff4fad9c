package kms

import (
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Status tells how a keeper's KMS is.
type Status struct {
	Mode  string // "local" or "aws"
	State string // "ok", or the class of what the last call failed of
	// Since is when it came to be in that state; zero if nothing was asked of it yet.
	Since time.Time
	// LastError is the class of the last failure, empty if there was none, and LastErrorAt when that was.
	LastError   string
	LastErrorAt time.Time
	// Breaker is "closed"; "open" while KMS isn't asked because it was down; "half_open" when the next call tries.
	Breaker string
}

// stateOK is the state of a KMS that answers as it should.
const stateOK = "ok"

// logEvery is how often a failure is logged that goes on.
const logEvery = 10 * time.Second

// health keeps what is known of KMS, and tells the log and the metrics.
type health struct {
	log     *slog.Logger
	clock   func() time.Time
	breaker *breaker

	errors   *prometheus.CounterVec
	attempts *prometheus.CounterVec
	duration *prometheus.HistogramVec

	mu     sync.Mutex
	state  Class // empty: ok
	since  time.Time
	last   Class
	lastAt time.Time
	logged map[failing]logged
}

// failing is what is logged by itself: that one right is missing must not hide that another one is.
type failing struct {
	class     Class
	operation string
}

type logged struct {
	at      time.Time
	skipped int // failures since then that were not logged
}

func newHealth(a *AWS, cfg AWSConfig) *health {
	h := &health{log: cfg.Log, clock: cfg.Clock, breaker: a.breaker, logged: map[failing]logged{}}
	h.errors = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sealkeep", Subsystem: "kms", Name: "errors_total",
		Help: "Calls to the KMS that failed, by the class of the failure.",
	}, []string{"class"})
	h.attempts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sealkeep", Subsystem: "kms", Name: "attempts_total",
		Help: "Attempts of calls to the KMS, by what came of them: ok or the class of the failure.",
	}, []string{"result"})
	h.attempts.WithLabelValues(stateOK)
	for _, c := range Classes() {
		h.errors.WithLabelValues(string(c))
	}
	h.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "sealkeep", Subsystem: "kms", Name: "call_duration_seconds",
		Help:    "How long calls to the KMS took, with all their attempts and pauses.",
		Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
	}, []string{"operation"})
	gauge := func(name, help string, read func() bool) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "sealkeep", Subsystem: "kms", Name: name, Help: help}, func() float64 {
			if read() {
				return 1
			}
			return 0
		})
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(h.errors, h.attempts, h.duration,
			gauge("up", "1 if the last call to the KMS succeeded, or none was made yet, else 0.", func() bool { return h.status().State == stateOK }),
			gauge("breaker_open", "1 while the KMS isn't asked because it was down.", func() bool { return a.breaker.state() != "closed" }),
			gauge("paced", "1 while calls to the KMS are slowed down because it throttled.", a.pace.isOn))
	}
	return h
}

func (h *health) took(operation string, d time.Duration) {
	h.duration.WithLabelValues(operation).Observe(d.Seconds())
}

func (h *health) attempted(c Class) {
	if c == "" {
		c = stateOK
	}
	h.attempts.WithLabelValues(string(c)).Inc()
}

func (h *health) succeeded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state != "" {
		h.log.Info("KMS answers again", "after", h.state, "for", h.clock().Sub(h.since).Round(time.Millisecond).String())
	}
	if h.state != "" || h.since.IsZero() {
		h.state, h.since = "", h.clock()
	}
}

// failed notes a failed call. That a row is damaged, or that a caller left, says nothing of KMS.
func (h *health) failed(e *callError) {
	c := e.class
	h.errors.WithLabelValues(string(c)).Inc()
	if c == ClassCanceled {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock()
	h.last, h.lastAt = c, now
	if !c.isDamage() && (h.state != c) {
		h.state, h.since = c, now
	}
	what := failing{c, e.operation}
	before := h.logged[what]
	if !before.at.IsZero() && now.Sub(before.at) < logEvery {
		before.skipped++
		h.logged[what] = before
		return
	}
	h.logged[what] = logged{at: now}
	h.log.Error("KMS: "+e.advice(), "class", string(c), "operation", e.operation, "key", e.key, "more_since_last", before.skipped, "error", e.err)
}

func (h *health) status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Status{
		Mode: "aws", State: stateOK, Since: h.since, LastError: string(h.last), LastErrorAt: h.lastAt, Breaker: h.breaker.state(),
	}
	if h.state != "" {
		s.State = string(h.state)
	}
	return s
}
