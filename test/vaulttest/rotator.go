package vaulttest

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// Rotator is what a rotator works with, on a vault's database and under a rotator's login. Its loops aren't started: a test takes their
// turns.
type Rotator struct {
	*vault.Rotations
	Metrics *prometheus.Registry

	trail *audit.Trail
}

// Rotator returns one with changes to the environment of the vault's keys. It ends with the test, or before that by End.
func (v *Vault) Rotator(t testing.TB, changes map[string]string, tune ...func(*vault.Config)) *Rotator {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	environ := v.OfflineEnviron()
	maps.Copy(environ, changes)
	environ["VAULT_DATABASE_URL"] = v.DB.URL("sealkeep_rotator")
	cfg, err := boot.LoadOffline(environ)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cfg.Release)
	r := &Rotator{Metrics: prometheus.NewRegistry()}
	var database *postgres.DB
	database, keeper, release, err := boot.OpenOffline(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	id := v.ID(t)
	keys, err := vault.OpenKeyring(ctx, database, keeper, id, integrity.PurposeRow, integrity.PurposeAudit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	trail, err := audit.Open(database, keys, id, audit.Config{Process: "rotator/test", Metrics: r.Metrics})
	if err != nil {
		t.Fatal(err)
	}
	if err := trail.Start(ctx); err != nil {
		t.Fatal(err)
	}
	settings := vault.Config{Metrics: r.Metrics, Rewrapper: boot.Rewrapper(keeper), RewrapPerSecond: 10_000}
	for _, change := range tune {
		change(&settings)
	}
	if r.Rotations, err = vault.NewRotations(database, trail, keeper, keys, settings); err != nil {
		t.Fatal(err)
	}
	r.trail = trail
	t.Cleanup(func() { r.End(t) })
	Eventually(t, "the rotator is ready", func() bool { return r.Ready(ctx) == nil })
	return r
}

// End stops it. Ending it twice is the same as once.
func (r *Rotator) End(t testing.TB) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	if err := r.Stop(ctx); err != nil {
		t.Errorf("stopping the rotator: %v", err)
	}
	if err := r.trail.Stop(ctx); err != nil {
		t.Errorf("stopping its trail: %v", err)
	}
}

// Deliver takes the open job of a targeted secret to where its target is told of the new value, and gives what it would be told. The test
// releases it. Other jobs are left as they are. It starts the rotator's loops, one of which looks secrets up.
func (r *Rotator) Deliver(t testing.TB, name string) *vault.Delivery {
	t.Helper()
	if err := r.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	jobs, err := r.Claim(t.Context(), vault.ClaimRequest{Limit: 100, Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(jobs, func(j vault.Job) bool { return j.Secret == name })
	if at < 0 {
		t.Fatalf("no job of %s is to be had", name)
	}
	job := jobs[at]
	if err := r.GiveBack(t.Context(), slices.Delete(jobs, at, at+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Prepare(t.Context(), &job); err != nil {
		t.Fatal(err)
	}
	d, err := r.Begin(t.Context(), &job)
	if err != nil || d == nil {
		t.Fatalf("%v, and nothing to be told: %v", err, d == nil)
	}
	return d
}

// Metric sums a metric of the rotator's over its labels.
func (r *Rotator) Metric(t testing.TB, name string) (sum float64) {
	t.Helper()
	families, err := r.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
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
