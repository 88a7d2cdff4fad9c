package rotation

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	attempts *prometheus.CounterVec
	failures *prometheus.CounterVec
	duration prometheus.Histogram
	probes   *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "sealkeep", Subsystem: "rotation", Name: "attempts_total",
			Help: "Attempts of this rotator at jobs, by what became of them.",
		}, []string{"outcome"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "sealkeep", Subsystem: "rotation", Name: "failures_total",
			Help: "Attempts that failed, by class.",
		}, []string{"class"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "sealkeep", Subsystem: "rotation", Name: "probes_total",
			Help: "Tries of current values at their targets by this rotator, by what was found: ok, or the class of the refusal.",
		}, []string{"result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "sealkeep", Subsystem: "rotation", Name: "attempt_duration_seconds",
			Help:    "How long an attempt took.",
			Buckets: []float64{.005, .02, .1, .5, 2, 10, 60},
		}),
	}
	for _, outcome := range []string{outcomeDone, outcomeLost, outcomeWaiting, outcomeAway, outcomeFailed, outcomeDead} {
		m.attempts.WithLabelValues(outcome)
	}
	if registerer != nil {
		registerer.MustRegister(m.attempts, m.failures, m.duration, m.probes)
	}
	return m
}

func (m *metrics) done(outcome string, took time.Duration) {
	m.attempts.WithLabelValues(outcome).Inc()
	m.duration.Observe(took.Seconds())
}

// failed counts a failure; classes are bounded.
func (m *metrics) failed(class string) { m.failures.WithLabelValues(class).Inc() }
