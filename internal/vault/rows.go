package vault

import (
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// sealedRows keeps secrets as they were read, sealed, by name: ciphertext and wrapped keys, never plaintext. A row that is
// kept proves nothing by itself: the round that commits an answer's records also tells whether the row is still the current
// one, so how long it was kept doesn't matter.
type sealedRows struct {
	cache *otter.Cache[string, *sealedSecret]
	now   func() time.Time
}

// sealedSecret is a secret as it was read. Nobody changes it.
type sealedSecret struct {
	postgres.SealedSecret
	connection int64 // audit.Trail.Connection before it was read
	readAt     time.Time
	damage     error // why nothing of it may be served; such a one is never kept
}

// maxRowAge bounds how long a row is kept, far below the days in which PostgreSQL could come to use an xmin again.
const maxRowAge = time.Hour

// newSealedRows keeps about limit bytes; with 0 it keeps nothing.
func newSealedRows(limit uint64, now func() time.Time) (*sealedRows, error) {
	r := &sealedRows{now: now}
	if limit == 0 {
		return r, nil
	}
	var err error
	r.cache, err = otter.New(&otter.Options[string, *sealedSecret]{
		MaximumWeight: limit,
		Weigher:       func(_ string, s *sealedSecret) uint32 { return s.weight() },
		Executor:      func(maintain func()) { maintain() }, // no goroutines of its own
	})
	return r, err
}

// get gives a secret that was read on this connection, with all its valid versions if all are asked for, or nil.
func (r *sealedRows) get(name string, all bool, connection int64) *sealedSecret {
	if r.cache == nil {
		return nil
	}
	s, ok := r.cache.GetIfPresent(name)
	if !ok || all && !s.All || s.connection != connection || r.now().Sub(s.readAt) > maxRowAge {
		return nil
	}
	return s
}

// keep keeps what was read, unless there is something wrong with it.
func (r *sealedRows) keep(s *sealedSecret) {
	if r.cache != nil && s.current() != nil {
		r.cache.Set(s.Name, s)
	}
}

// drop forgets a row that is no longer what it was.
func (r *sealedRows) drop(name string) {
	if r.cache != nil {
		r.cache.Invalidate(name)
	}
}

func (r *sealedRows) dropAll() {
	if r.cache != nil {
		r.cache.InvalidateAll()
	}
}

// register exports how much is kept.
func (r *sealedRows) register(registerer prometheus.Registerer) {
	if registerer == nil {
		return
	}
	gauge := func(name, help string, value func() float64) {
		registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "sealkeep", Subsystem: "vault", Name: name, Help: help,
		}, func() float64 {
			if r.cache == nil {
				return 0
			}
			return value()
		}))
	}
	gauge("sealed_rows", "Secrets whose sealed rows are kept in memory.", func() float64 { return float64(r.cache.EstimatedSize()) })
	gauge("sealed_bytes", "About how much memory the sealed rows take that are kept.", func() float64 { return float64(r.cache.WeightedSize()) })
}

// weight is about what the secret takes in memory, in bytes.
func (s *sealedSecret) weight() uint32 {
	const secretBytes, versionBytes = 384, 320 // the structs, and what the cache and the allocator add
	n := secretBytes + 2*len(s.Name) + len(s.Description) + len(s.CustomMetadata) + len(s.Target) + len(s.Mac) + len(s.VersionsDigest)
	for i := range s.Versions {
		v := &s.Versions[i]
		n += versionBytes + len(v.MAC) + len(v.WrappedDEK) + len(v.Nonce) + len(v.Ciphertext) + len(v.KMSKeyID)
	}
	return uint32(n) //nolint:gosec // at most 16 valid versions of some 64 KiB
}

// current gives the current version; nil says that the row of it is missing or isn't current.
func (s *sealedSecret) current() *postgres.SealedVersion {
	for i := range s.Versions {
		if v := &s.Versions[i]; v.Version == s.CurrentVersion && v.State == string(secret.Current) {
			return v
		}
	}
	return nil
}

// version gives a version that is valid at that time, or nil.
func (s *sealedSecret) version(number int64, at time.Time) *postgres.SealedVersion {
	for i := range s.Versions {
		if v := &s.Versions[i]; v.Version == number && secret.Valid(secret.State(v.State), v.ExpiresAt, at) {
			return v
		}
	}
	return nil
}
