package audit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/postgres"
)

type metrics struct {
	records   *prometheus.CounterVec
	rounds    *prometheus.CounterVec
	roundSize *prometheus.HistogramVec
	seconds   *prometheus.HistogramVec
	refused   *prometheus.CounterVec
	inDoubt   prometheus.Counter
	moved     prometheus.Counter
	counted   prometheus.Counter
	// beatsMissed counts heartbeats that were due and could not be written.
	beatsMissed prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "sealkeep", Subsystem: "audit", Name: name, Help: help}
	}
	m := &metrics{
		records: prometheus.NewCounterVec(opts("records_total", "Audit records committed, by kind of stream."), []string{"stream"}),
		rounds:  prometheus.NewCounterVec(opts("rounds_total", "Commits that carried audit records, by kind of stream and outcome."), []string{"stream", "outcome"}),
		roundSize: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "sealkeep", Subsystem: "audit", Name: "round_records", Help: "Records in one shared round.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}, []string{"stream"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "sealkeep", Subsystem: "audit", Name: "round_seconds", Help: "Duration of one shared round's round trip.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}, []string{"stream"}),
		refused: prometheus.NewCounterVec(opts("refused_total", "Requests refused because their evidence could not be committed, by kind of stream."), []string{"stream"}),
		inDoubt: prometheus.NewCounter(opts("outcomes_unknown_total", "Commits whose outcome stayed unknown.")),
		moved:   prometheus.NewCounter(opts("streams_moved_total", "Streams that somebody else moved, closed or removed while this process wrote them: an alarm.")),
		counted: prometheus.NewCounter(opts("denials_counted_total", "Denials that were counted in one record instead of recorded one by one.")),
	}
	m.beatsMissed = prometheus.NewCounter(opts("heartbeats_missed_total", "Heartbeats that were due and could not be written: an alarm, if it goes on."))
	if registerer != nil {
		registerer.MustRegister(m.records, m.rounds, m.roundSize, m.seconds, m.refused, m.inDoubt, m.moved, m.counted, m.beatsMissed)
	}
	return m
}

func (m *metrics) round(kind string, outcome postgres.Outcome, records int, took time.Duration) {
	m.rounds.WithLabelValues(kind, outcome.String()).Inc()
	m.roundSize.WithLabelValues(kind).Observe(float64(records))
	m.seconds.WithLabelValues(kind).Observe(took.Seconds())
	if outcome == postgres.Committed {
		m.records.WithLabelValues(kind).Add(float64(records))
	}
}
