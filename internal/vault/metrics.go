package vault

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	decisions *prometheus.CounterVec
	integrity *prometheus.CounterVec
	ahead     prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "sealkeep", Subsystem: "vault", Name: "operations_total",
			Help: "Operations that reached the gate, by action and outcome as audited.",
		}, []string{"action", "outcome"}),
		integrity: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "sealkeep", Subsystem: "vault", Name: "integrity_failures_total",
			Help: "Rows that didn't verify: an alarm. Nothing of them was served.",
		}, []string{"action"}),
		ahead: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "sealkeep", Subsystem: "vault", Name: "audit_partitions_ahead_days",
			Help: "Days ahead for which audit partitions were made: below 3 is an alarm.",
		}),
	}
	if registerer != nil {
		registerer.MustRegister(m.decisions, m.integrity, m.ahead)
	}
	return m
}
