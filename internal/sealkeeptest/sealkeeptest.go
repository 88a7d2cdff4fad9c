// Package sealkeeptest gives tests a whole vault: a database of its own on a real PostgreSQL, initialised, and an API
// process in this very process, as cmd/api would run it; rotators, too, if a test starts them; and a program of cmd as a
// process of its own. Only tests may import it.
//
// Invariants:
//   - A vault belongs to one test, and nothing of it is left when the test ends: no goroutine, connection or database.
//   - It is what is shipped: configured by an environment, wired by internal/boot, connected as sealkeep_api. Nothing in
//     it is replaced or shortened but what an operator could.
//
// The TestMain of a package that uses it calls pgtest.Main.
package sealkeeptest

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/telemetry"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// Vault is a vault that serves on a loopback address.
type Vault struct {
	URL        string // of the API, without a slash at its end
	MetricsURL string // of its metrics
	AdminToken string // of the built-in role admin
	DB         *pgtest.Database
	Process    *boot.APIProcess
	Log        *Buffer // what the process logged so far

	environ  map[string]string
	settings settings
	client   *http.Client
	stop     context.CancelFunc // nil while stopped
	ended    chan error         // what Run returned
}

// startPatience bounds the start of a process; it only keeps a broken one from hanging the test.
const startPatience = time.Minute

// New returns a vault that serves. It is stopped when the test ends, and its log is shown if the test failed.
func New(t testing.TB, options ...Option) *Vault {
	t.Helper()
	v := &Vault{
		DB:  pgtest.New(t),
		Log: &Buffer{},
		environ: map[string]string{
			"VAULT_API_LISTEN":       "127.0.0.1:0",
			"VAULT_TELEMETRY_LISTEN": "127.0.0.1:0",
			"VAULT_ALLOWED_IPS":      "127.0.0.0/8",
			"VAULT_PG_MAX_CONNS":     "8", // tests run side by side on one server
			"VAULT_DRAIN_SECS":       "10",
			"VAULT_LOG_LEVEL":        "debug",
		},
		client: &http.Client{
			Transport:     &http.Transport{},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	for _, option := range options {
		option(&v.settings)
	}
	maps.Copy(v.environ, KMSEnviron(t))
	maps.Copy(v.environ, v.settings.environ)
	v.initialise(t)
	v.environ["VAULT_DATABASE_URL"] = v.databaseURL("sealkeep_api")
	maps.Copy(v.environ, v.settings.environ)
	t.Cleanup(func() {
		v.Stop(t)
		if t.Failed() {
			t.Logf("the process's log:\n%s", v.Log.Tail(32<<10))
		}
	})
	v.Start(t)
	return v
}

func (v *Vault) databaseURL(login string) string {
	if v.settings.database == nil {
		return v.DB.URL(login)
	}
	return v.settings.database(v.DB.TCPURL(login))
}

// OfflineEnviron is the environment of an offline command on this vault.
func (v *Vault) OfflineEnviron() map[string]string {
	environ := OfKMS(v.environ)
	environ["VAULT_DATABASE_URL"] = v.DB.URL("sealkeep_operator")
	return environ
}

// initialise makes the vault as `sealkeep init` does, as the login of offline commands.
func (v *Vault) initialise(t testing.TB) {
	t.Helper()
	v.AdminToken = initialise(t, v.DB, v.environ, telemetry.NewLogger(v.Log, slog.LevelDebug))
}

func initialise(t testing.TB, d *pgtest.Database, environ map[string]string, log *slog.Logger) (token string) {
	t.Helper()
	environ = OfKMS(environ)
	environ["VAULT_DATABASE_URL"] = d.URL("sealkeep_operator")
	cfg, err := boot.LoadOffline(environ)
	if err != nil {
		t.Fatal(err)
	}
	defer cfg.Release()
	database, keeper, release, err := boot.OpenOffline(t.Context(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	issued, err := vault.Init(t.Context(), database, keeper, cfg.BootstrapToken, vault.Config{Log: log})
	if err != nil {
		t.Fatalf("initialising the vault: %v", err)
	}
	defer issued.Release()
	return string(issued.Token.Reveal())
}

// Start starts the process, if it is stopped, and returns when it is ready. URL and MetricsURL are those of this run.
func (v *Vault) Start(t testing.TB) {
	t.Helper()
	if v.stop != nil {
		return
	}
	cfg, err := boot.LoadAPI(v.environ)
	if err != nil {
		t.Fatal(err)
	}
	var out io.Writer = v.Log
	if v.settings.log != nil {
		out = io.MultiWriter(v.Log, v.settings.log)
	}
	patience, cancel := context.WithTimeout(t.Context(), startPatience)
	defer cancel()
	p, err := boot.NewAPI(patience, cfg, telemetry.NewLogger(out, cfg.LogLevel))
	if err != nil {
		t.Fatalf("building the process: %v", err)
	}
	v.Process = p
	v.URL = "http://" + p.Addr().String()
	v.MetricsURL = "http://" + p.TelemetryAddr().String() + "/metrics"

	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	v.stop, v.ended = stop, make(chan error, 1)
	go func() { v.ended <- p.Run(ctx) }()
	v.awaitReady(patience, t)
}

// awaitReady asks the vault before it asks the probe, which would remember for a second that it was asked too early.
func (v *Vault) awaitReady(ctx context.Context, t testing.TB) {
	t.Helper()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for v.Process.Vault().Ready(ctx) != nil || v.Process.Ready(ctx) != nil {
		select {
		case err := <-v.ended:
			v.ended <- err
			t.Fatalf("the process ended before it was ready: %v", err)
		case <-ctx.Done():
			t.Fatalf("the process was not ready in time; its log:\n%s", v.Log.Tail(32<<10))
		case <-again.C:
		}
	}
}

// Stop stops the process as SIGTERM does, if it runs. That it stopped with errors fails the test, unless
// WithUncleanStop.
func (v *Vault) Stop(t testing.TB) {
	t.Helper()
	if v.stop == nil {
		return
	}
	v.stop()
	v.stop = nil
	if err := <-v.ended; err != nil && !v.settings.unclean {
		t.Errorf("the process stopped with errors: %v", err)
	}
	v.client.CloseIdleConnections()
}

// Restart stops the process and starts another one on the same database, on other ports.
func (v *Vault) Restart(t testing.TB) {
	t.Helper()
	v.Stop(t)
	v.Start(t)
}
