package sealkeeptest

import (
	"context"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/telemetry"
)

// Rotator is a rotator process of a vault, in this very process, connected as sealkeep_rotator.
type Rotator struct {
	MetricsURL string // of its metrics
	Process    *boot.RotatorProcess
	Log        *Buffer // what it logged so far

	vault *Vault
	stop  context.CancelFunc // nil while stopped
	ended chan error         // what Run returned
}

// StartRotator starts a rotator on the vault's database and returns when it is ready; any number may run. settings are further variables
// of its environment, each NAME=value; those of the vault's own environment that rotators read hold for it too. It is stopped when
// the test ends, and its log is shown if the test failed.
func (v *Vault) StartRotator(t testing.TB, settings ...string) *Rotator {
	t.Helper()
	environ := maps.Clone(v.environ)
	environ["VAULT_DATABASE_URL"] = v.databaseURL("sealkeep_rotator")
	maps.Copy(environ, v.settings.environ)
	for _, setting := range settings {
		name, value, ok := strings.Cut(setting, "=")
		if !ok {
			t.Fatalf("%s isn't NAME=value", setting)
		}
		environ[name] = value
	}
	cfg, err := boot.LoadRotator(environ)
	if err != nil {
		t.Fatal(err)
	}
	r := &Rotator{Log: &Buffer{}, vault: v}
	var out io.Writer = r.Log
	if v.settings.log != nil {
		out = io.MultiWriter(r.Log, v.settings.log)
	}
	patience, cancel := context.WithTimeout(t.Context(), startPatience)
	defer cancel()
	if r.Process, err = boot.NewRotator(patience, cfg, telemetry.NewLogger(out, cfg.LogLevel)); err != nil {
		t.Fatalf("building the rotator: %v", err)
	}
	r.MetricsURL = "http://" + r.Process.TelemetryAddr().String() + "/metrics"

	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	r.stop, r.ended = stop, make(chan error, 1)
	t.Cleanup(func() {
		r.Stop(t)
		if t.Failed() {
			t.Logf("the rotator's log:\n%s", r.Log.Tail(32<<10))
		}
	})
	go func() { r.ended <- r.Process.Run(ctx) }()
	r.awaitReady(patience, t)
	return r
}

func (r *Rotator) awaitReady(ctx context.Context, t testing.TB) {
	t.Helper()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for r.Process.Ready(ctx) != nil {
		select {
		case err := <-r.ended:
			r.ended <- err
			t.Fatalf("the rotator ended before it was ready: %v", err)
		case <-ctx.Done():
			t.Fatalf("the rotator was not ready in time; its log:\n%s", r.Log.Tail(32<<10))
		case <-again.C:
		}
	}
}

// Stop stops the rotator as SIGTERM does, if it runs. That it stopped with errors fails the test, unless WithUncleanStop.
func (r *Rotator) Stop(t testing.TB) {
	t.Helper()
	if r.stop == nil {
		return
	}
	r.stop()
	r.stop = nil
	if err := <-r.ended; err != nil && !r.vault.settings.unclean {
		t.Errorf("the rotator stopped with errors: %v", err)
	}
}

// Metric gives the value of a series as the rotator's /metrics has it now, as Vault.Metric does.
func (r *Rotator) Metric(t testing.TB, series string) float64 {
	t.Helper()
	return r.vault.metric(t, r.MetricsURL, series)
}
