package kms

import "github.com/prometheus/client_golang/prometheus"

type cacheMetrics struct {
	hits, misses, evicted, expired prometheus.Counter
}

func newCacheMetrics(registerer prometheus.Registerer, entries func() int, locked bool) cacheMetrics {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sealkeep", Subsystem: "dek_cache", Name: "lookups_total",
		Help: "Data keys that were asked for, by whether they were kept: hit or miss.",
	}, []string{"result"})
	removals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sealkeep", Subsystem: "dek_cache", Name: "evictions_total",
		Help: "Data keys that were zeroed, by why: their time was up (ttl) or the cache was full (size).",
	}, []string{"reason"})
	kept := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "sealkeep", Subsystem: "dek_cache", Name: "entries", Help: "Data keys that are kept in memory.",
	}, func() float64 { return float64(entries()) })
	lock := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "sealkeep", Subsystem: "dek_cache", Name: "memory_locked",
		Help: "1 if the memory that data keys are kept in can't be swapped out or dumped, else 0: raise the limit on locked memory.",
	})
	if locked {
		lock.Set(1)
	}
	if registerer != nil {
		registerer.MustRegister(lookups, removals, kept, lock)
	}
	return cacheMetrics{
		hits: lookups.WithLabelValues("hit"), misses: lookups.WithLabelValues("miss"),
		evicted: removals.WithLabelValues("size"), expired: removals.WithLabelValues("ttl"),
	}
}
