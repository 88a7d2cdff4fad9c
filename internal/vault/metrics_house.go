package vault

import (
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// houseMetrics tell of a rotator's housekeeping. What one process at a time does is 0 at the others.
type houseMetrics struct {
	lacking   prometheus.Gauge
	ended     prometheus.Gauge
	rewrapped prometheus.Counter
	purged    prometheus.Counter

	mu    sync.Mutex
	lacks int64  // as the last look through all versions left it
	blind string // what the log was last told of rotations that can't be seen
}

func newHouseMetrics(registerer prometheus.Registerer) *houseMetrics {
	m := &houseMetrics{
		lacking: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "sealkeep", Subsystem: "vault", Name: "versions_lacking_wrapping",
			Help: "Versions that one of the two master keys doesn't wrap, after the last look through all of them; at least so many if that stopped. 0 where another process looks.",
		}),
		ended: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "sealkeep", Subsystem: "vault", Name: "expired_versions",
			Help: "Versions whose grace has ended and that are there still. 0 where another process removes them.",
		}),
		rewrapped: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "sealkeep", Subsystem: "vault", Name: "rewrapped_versions_total",
			Help: "Versions whose data keys this process had wrapped again.",
		}),
		purged: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "sealkeep", Subsystem: "vault", Name: "purged_versions_total",
			Help: "Versions that this process removed because their grace had ended.",
		}),
	}
	if registerer != nil {
		registerer.MustRegister(m.lacking, m.ended, m.rewrapped, m.purged)
	}
	return m
}

// stillLack notes how many versions lack a wrapping after a look. One that stopped knows of no more than it came to, and the one before
// may have known of more.
func (m *houseMetrics) stillLack(n int64, whole bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if whole || n > m.lacks {
		m.lacks = n
		m.lacking.Set(float64(n))
	}
}

// tellBlind tells the log, once, why it can't be seen when master keys got new material.
func (m *houseMetrics) tellBlind(log *slog.Logger, blind error) {
	text := ""
	if blind != nil {
		text = blind.Error()
	}
	m.mu.Lock()
	news := text != m.blind
	m.blind = text
	m.mu.Unlock()
	if news && blind != nil {
		log.Warn("rotations of a master key's material are not noticed: what is wrapped under former material opens all the same", "error", blind)
	}
}
