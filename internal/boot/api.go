// Package boot builds processes from their configuration: it connects what the other packages offer, in the one order
// that works, and takes it apart in the opposite one. Every program and the tests that need a whole process share it.
//
// Invariants:
//   - I4: a process doesn't start on a configuration that isn't understood in full, on a schema that it doesn't know, or
//     on a database that holds no vault; it says which of these in one line.
//   - I2, I3: requests end before the audit trail does, and the trail before its connections to the database.
//   - I8: it waits for a primary; a standby is none.
//   - I1: the master key is zeroed where it was read as soon as it is understood, and for good once the keeper has it.
package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/httpapi"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/process"
	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/telemetry"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// APIProcess is an API server: a vault behind HTTP, and its telemetry.
type APIProcess struct {
	log       *slog.Logger
	drain     time.Duration
	database  *postgres.DB
	trail     *audit.Trail
	vault     *vault.Vault
	readiness *process.Readiness
	api       *process.Server
	telemetry *process.Server
	release   closers
}

// NewAPI builds an API process, bound to its addresses and not yet serving. It waits up to 30 s, and no longer than ctx,
// until a primary of the database answers. cfg is released, whatever the outcome. The caller must either Run or Close
// what it gets.
//
// Its errors are one line that says what to do.
func NewAPI(ctx context.Context, cfg *API, log *slog.Logger) (*APIProcess, error) {
	defer cfg.Release()
	log.Info("configuration", "version", process.Version, "runtime_secret", sensitive.Erases, "config", cfg)
	warn(log, cfg)

	p := &APIProcess{log: log, drain: cfg.Drain}
	if err := p.build(ctx, cfg); err != nil {
		p.release.close()
		return nil, err
	}
	return p, nil
}

func (p *APIProcess) build(ctx context.Context, cfg *API) error {
	name, err := processName("api", randomness.Reader)
	if err != nil {
		return err
	}
	metrics := telemetry.NewRegistry("api", process.Version)

	keeper, err := newKeeper(ctx, cfg.KMS, cfg.masterKey, cfg.allowedKeys, p.log, metrics)
	if err != nil {
		return err
	}
	p.release.add(keeper.Close)
	p.database, err = openDatabase(ctx, cfg.Database, name)
	if err != nil {
		return err
	}
	p.release.add(p.database.Close)
	if err := awaitDatabase(ctx, p.database, cfg.Database, p.log); err != nil {
		return err
	}
	if err := observeDatabase(metrics, p.database); err != nil {
		return err
	}
	if err := p.database.CheckSchema(ctx); err != nil {
		return err
	}
	strong, err := p.database.CheckLogin(ctx, "vault_api")
	if err != nil {
		return err
	}
	if strong {
		p.log.Warn("the database login passes by row security: use one that is in vault_api and nothing else")
	}
	vaultID, initialised, err := vault.LoadIdentity(ctx, p.database)
	if err != nil {
		return err
	}
	if !initialised {
		return errors.New("the database holds no vault: run `sealkeep init`")
	}
	keys, err := vault.OpenKeyring(ctx, p.database, keeper, vaultID, integrity.PurposeRow, integrity.PurposeAudit)
	if err != nil {
		return err
	}
	if err := tellHistory(ctx, p.database, p.log); err != nil {
		return err
	}
	p.release.add(keys.Close)
	p.warnRoots(ctx, Rewrapper(keeper))

	cached, err := p.cache(keeper, cfg, metrics)
	if err != nil {
		return err
	}
	p.trail, err = audit.Open(p.database, keys, vaultID, audit.Config{
		Process: name, Timeout: cfg.AuditTimeout, Log: p.log, Metrics: metrics,
	})
	if err != nil {
		return err
	}
	p.vault, err = vault.New(p.database, p.trail, cached, keys, vault.Config{
		Allowlist: cfg.Allowlist, ReadAuth: vault.ReadAuth(cfg.ReadAuth), SealedCacheBytes: cfg.SealedCacheBytes, Rewrapper: Rewrapper(keeper), Log: p.log, Metrics: metrics,
	})
	if err != nil {
		return err
	}
	p.readiness = process.NewReadiness(p.vault.Ready, nil, p.log)
	return p.listen(ctx, cfg, metrics)
}

// warnRoots tells of roots that the loss of one master key would lose.
func (p *APIProcess) warnRoots(ctx context.Context, rewrapper vault.Rewrapper) {
	if rewrapper == nil {
		return
	}
	switch n, err := vault.RootsLacking(ctx, p.database, rewrapper); {
	case err != nil:
		p.log.Warn("it could not be told whether both master keys wrap the keyring's roots", "error", err)
	case n > 0:
		p.log.Warn("one master key alone wraps some of the keyring's roots: run `sealkeep keyring fill`", "roots", n)
	}
}

func (p *APIProcess) listen(ctx context.Context, cfg *API, metrics *prometheus.Registry) error {
	handler, err := httpapi.New(p.vault, httpapi.Config{
		AddressPolicy: cfg.AddressPolicy, Log: p.log, Metrics: metrics, Version: process.Version, Ready: p.readiness.Ready,
	})
	if err != nil {
		return err
	}
	p.api, err = process.NewServer(ctx, "api", cfg.Listen, handler, p.log)
	if err != nil {
		return fmt.Errorf("%w (VAULT_API_LISTEN)", err)
	}
	p.release.add(func() { _ = p.api.Stop(context.Background()) })
	p.telemetry, err = process.NewServer(ctx, "telemetry", cfg.TelemetryListen,
		telemetry.NewHandler(metrics, p.readiness.Ready, p.log), p.log)
	if err != nil {
		return fmt.Errorf("%w (VAULT_TELEMETRY_LISTEN)", err)
	}
	p.release.add(func() { _ = p.telemetry.Stop(context.Background()) })
	return nil
}

// Run serves until ctx is done, and then stops within the configured time: it calls itself not ready, takes no more
// connections, finishes what is in flight, closes the audit trail's streams, and lets the database go. It returns nil if
// all of that succeeded. It is called once; nothing of the process may be used afterwards.
func (p *APIProcess) Run(ctx context.Context) error {
	return process.Run(ctx, p.log, p.drain,
		process.Part{Name: "the database", Stop: p.letGo},
		p.telemetry.Part(),
		process.Part{Name: "the audit trail", Start: p.trail.Start, Stop: p.trail.Stop},
		process.Part{Name: "housekeeping", Start: p.vault.Start, Stop: p.vault.Stop},
		p.api.Part(),
		process.Part{
			Name:  "readiness",
			Start: func(context.Context) error { p.readiness.Serve(); return nil },
			Stop:  func(context.Context) error { p.readiness.Withdraw(); return nil },
		},
	)
}

// letGo releases what the parts of the process stood on. If the time is up, a part may be using it still: the end of the
// process releases it then.
func (p *APIProcess) letGo(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.release.close()
	return nil
}

// Close releases what a process holds that is never Run. It is safe twice, and after Run.
func (p *APIProcess) Close() { p.release.close() }

// Addr is where the API listens, with the port that the system chose if it was left to.
func (p *APIProcess) Addr() net.Addr { return p.api.Addr() }

// TelemetryAddr is where probes and metrics are served.
func (p *APIProcess) TelemetryAddr() net.Addr { return p.telemetry.Addr() }

// Vault is the vault behind the API.
func (p *APIProcess) Vault() *vault.Vault { return p.vault }

// Ready tells whether the process would serve a request, as its readiness probes do.
func (p *APIProcess) Ready(ctx context.Context) error { return p.readiness.Ready(ctx) }

// processName names this process uniquely: in pg_stat_activity, and in the audit trail's streams, which outlive it. Two of one name would
// take each other's streams for their own, so a source of randomness that doesn't work makes none.
func processName(program string, random io.Reader) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	var drawn [randomness.MinDraw]byte
	if _, err := random.Read(drawn[:]); err != nil {
		return "", fmt.Errorf("naming this process: %w", err)
	}
	// PostgreSQL keeps 63 bytes of a name, and the random part matters most.
	return fmt.Sprintf("%s/%.40s/%x", program, host, drawn[:4]), nil
}
