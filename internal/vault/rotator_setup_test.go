package vault_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

const rotatorName = "rotator-test"

// rotator is a rotator's vault, under the login of one, whose loops aren't started: a test takes their turns.
type rotator struct {
	*vault.Rotations
	f       *fixture
	metrics *prometheus.Registry
	clock   *clock
}

// clock is a clock that a test moves.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func (f *fixture) rotator(tune ...func(*vault.Config)) *rotator {
	f.t.Helper()
	return f.rotatorWith(f.keeper, tune...)
}

func (f *fixture) rotatorWith(keeper vault.Keeper, tune ...func(*vault.Config)) *rotator {
	f.t.Helper()
	ctx := context.Background()
	r := &rotator{f: f, metrics: prometheus.NewRegistry(), clock: &clock{}}
	database := f.open("sealkeep_rotator")
	keys, err := vault.OpenKeyring(ctx, database, keeper, f.vaultID, integrity.PurposeRow, integrity.PurposeAudit)
	must(f.t, err)
	f.t.Cleanup(keys.Close)
	log := slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	trail, err := audit.Open(database, keys, f.vaultID, audit.Config{Process: rotatorName, Log: log, Metrics: r.metrics})
	must(f.t, err)
	must(f.t, trail.Start(ctx))
	cfg := vault.Config{Log: log, Metrics: r.metrics, Clock: r.clock.now, RewrapPerSecond: 10_000}
	for _, change := range tune {
		change(&cfg)
	}
	r.Rotations, err = vault.NewRotations(database, trail, keeper, keys, cfg)
	must(f.t, err)
	f.t.Cleanup(func() {
		stop, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		must(f.t, r.Stop(stop))
		must(f.t, trail.Stop(stop))
	})
	eventually(f.t, "the rotator is ready", func() bool { return r.Ready(ctx) == nil })
	return r
}

// moved is the keeper of a vault whose master key is another one now: it wraps under the new one, and opens what the former one wrapped, as AWS
// KMS does with an allowed key.
type moved struct {
	*kms.Local
	former *kms.Local
}

func (m *moved) Decrypt(ctx context.Context, wrapped []byte, keyID string, ec kms.Context) (sensitive.Bytes, error) {
	if keyID == m.former.KeyID() {
		return m.former.Decrypt(ctx, wrapped, keyID, ec)
	}
	return m.Local.Decrypt(ctx, wrapped, keyID, ec)
}

func (m *moved) ReEncrypt(ctx context.Context, wrapped []byte, keyID string, ec kms.Context) ([]byte, string, error) {
	key, err := m.Decrypt(ctx, wrapped, keyID, ec)
	if err != nil {
		return nil, "", err
	}
	defer key.Release()
	return m.WrapKey(ctx, key, ec)
}

func (r *rotator) metric(name string) float64 { return metricOf(r.f.t, r.metrics, name) }

// metricOf sums a metric over its labels.
func metricOf(t testing.TB, metrics *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := metrics.Gather()
	must(t, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return sum
}

// recorded counts the records of an action on a secret that had an outcome.
func (f *fixture) recorded(action, name, outcome string) int64 {
	f.t.Helper()
	return pgtest.Query[int64](f.t, f.db, "SELECT count(*) FROM vault.audit_log WHERE action = $1 AND secret_name = $2 AND outcome = $3", action, name, outcome)[0]
}

// versionsOf lists the versions of a secret that are stored.
func (f *fixture) versionsOf(name string) []int64 {
	f.t.Helper()
	return pgtest.Query[int64](f.t, f.db, `SELECT v.version FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id
		WHERE s.name = $1 ORDER BY 1`, name)
}
