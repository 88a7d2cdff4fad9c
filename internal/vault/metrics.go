package vault

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	decisions *prometheus.CounterVec
	integrity *prometheus.CounterVec
}

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
	ahead := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "sealkeep", Subsystem: "vault", Name: "audit_partitions_ahead_days",
		Help: "Days from now for which audit partitions are known to be there: below 3 is an alarm, and at 0 answers are about to be refused.",
	}, func() float64 { return float64(partitionsAhead()) })
	if registerer != nil {
		registerer.MustRegister(m.decisions, m.integrity, ahead)
	}
	return m
}
