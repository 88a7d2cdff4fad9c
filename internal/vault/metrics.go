package vault

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	decisions *prometheus.CounterVec
	integrity *prometheus.CounterVec
	withheld  *prometheus.CounterVec
	hits      prometheus.Counter
	misses    prometheus.Counter
	// statements counts the lookups that were made for what wasn't kept, each for many requests.
	statements prometheus.Counter
	// grantsVerified is 0 while the grants in the database don't verify.
	grantsVerified prometheus.Gauge
}

// decided counts an operation. Actions and outcomes are bounded.
func (m *metrics) decided(action, outcome string) { m.decisions.WithLabelValues(action, outcome).Inc() }

func newMetrics(registerer prometheus.Registerer, partitionsAhead func() int) *metrics {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "sealkeep", Subsystem: "vault", Name: "operations_total",
			Help: "Operations that reached the gate, by action and outcome as audited.",
		}, []string{"action", "outcome"}),
		integrity: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "sealkeep", Subsystem: "vault", Name: "integrity_failures_total",
			Help: "Rows that didn't verify: an alarm. Nothing of them was served.",
		}, []string{"action"}),
	}
	m.withheld = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sealkeep", Subsystem: "vault", Name: "withheld_total",
		Help: "Answers that were recorded and did not leave, by what was no longer so when their records were committed.",
	}, []string{"reason"})
	for _, reason := range []string{withheldChanged, withheldGrants, withheldExpired} {
		m.withheld.WithLabelValues(reason)
	}
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sealkeep", Subsystem: "vault", Name: "sealed_lookups_total",
		Help: "Secrets whose sealed rows were asked for, by whether they were kept.",
	}, []string{"result"})
	m.hits, m.misses = lookups.WithLabelValues("hit"), lookups.WithLabelValues("miss")
	m.statements = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "sealkeep", Subsystem: "vault", Name: "lookup_statements_total",
		Help: "Statements that looked secrets up, each for all requests that waited.",
	})
	ahead := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "sealkeep", Subsystem: "vault", Name: "audit_partitions_ahead_days",
		Help: "Days from now for which audit partitions are known to be there: below 3 is an alarm, and at 0 answers are about to be refused.",
	}, func() float64 { return float64(partitionsAhead()) })
	if registerer != nil {
		registerer.MustRegister(m.decisions, m.integrity, m.withheld, lookups, m.statements, ahead)
	}
	return m
}
