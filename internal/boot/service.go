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

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/process"
	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/telemetry"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// service is what every process stands on that serves: the key keeper, the database, the vault's keys, an audit trail, and telemetry.
type service struct {
	log       *slog.Logger
	cfg       config.Service // without the master key
	metrics   *prometheus.Registry
	keeper    kms.Keeper // what the keyring's roots are unwrapped by
	cached    kms.Keeper // the same behind the cache of data keys
	database  *postgres.DB
	keyring   *integrity.Keyring
	trail     *audit.Trail
	readiness *process.Readiness
	telemetry *process.Server
	release   closers
}

// begin opens what a service stands on, for a program that works with the rights of a group role. It waits for a primary. The caller
// must close the service, also after an error.
func (s *service) begin(ctx context.Context, program, group string, cfg config.Service, k *keys, log *slog.Logger, more ...integrity.Purpose) error {
	warn(log, &cfg)
	s.log, s.cfg, s.metrics = log, cfg, telemetry.NewRegistry(program, process.Version)
	name, err := processName(program, randomness.Reader)
	if err != nil {
		return err
	}
	if s.keeper, err = newKeeper(ctx, cfg.KMS, k.masterKey, k.allowedKeys, log, s.metrics); err != nil {
		return err
	}
	s.release.add(s.keeper.Close)
	if err := s.openDatabase(ctx, name, group); err != nil {
		return err
	}
	if err := s.openVault(ctx, append(more, integrity.PurposeRow, integrity.PurposeAudit)); err != nil {
		return err
	}
	if s.cached, err = s.cache(s.keeper); err != nil {
		return err
	}
	s.trail, err = audit.Open(s.database, s.keyring, s.keyring.VaultID(), audit.Config{
		Process: name, Timeout: cfg.AuditTimeout, Log: log, Metrics: s.metrics,
	})
	return err
}

// openDatabase connects to a primary whose schema is known, by a login that has the group's rights.
func (s *service) openDatabase(ctx context.Context, name, group string) error {
	var err error
	if s.database, err = openDatabase(ctx, s.cfg.Database, name); err != nil {
		return err
	}
	s.release.add(s.database.Close)
	if err := awaitDatabase(ctx, s.database, s.cfg.Database, s.log); err != nil {
		return err
	}
	if err := observeDatabase(s.metrics, s.database); err != nil {
		return err
	}
	if err := s.database.CheckSchema(ctx); err != nil {
		return err
	}
	strong, err := s.database.CheckLogin(ctx, group)
	if err != nil {
		return err
	}
	if strong {
		s.log.Warn("the database login passes by row security: use one that is in " + group + " and nothing else")
	}
	return nil
}

// openVault opens the keyring of the vault that the database holds.
func (s *service) openVault(ctx context.Context, purposes []integrity.Purpose) error {
	vaultID, initialised, err := vault.LoadIdentity(ctx, s.database)
	if err != nil {
		return err
	}
	if !initialised {
		return errors.New("the database holds no vault: run `sealkeep init`")
	}
	if s.keyring, err = vault.OpenKeyring(ctx, s.database, s.keeper, vaultID, purposes...); err != nil {
		return err
	}
	s.release.add(s.keyring.Close)
	if err := tellHistory(ctx, s.database, s.log); err != nil {
		return err
	}
	s.warnRoots(ctx, Rewrapper(s.keeper))
	return nil
}

// warnRoots tells of roots that the loss of one master key would lose, or that keep a former one in use.
func (s *service) warnRoots(ctx context.Context, rewrapper vault.Rewrapper) {
	if rewrapper == nil {
		return
	}
	switch n, err := vault.RootsLacking(ctx, s.database, rewrapper); {
	case err != nil:
		s.log.Warn("it could not be told whether the master keys wrap the keyring's roots", "error", err)
	case n > 0:
		s.log.Warn("some of the keyring's roots aren't wrapped by the master keys as they are configured now: run `sealkeep keyring fill`", "roots", n)
	}
}

// observe binds the telemetry listener. ready tells whether the process does its work, as far as that can be told.
func (s *service) observe(ctx context.Context, ready func(context.Context) error) error {
	s.readiness = process.NewReadiness(ready, nil, s.log)
	var err error
	s.telemetry, err = process.NewServer(ctx, "telemetry", s.cfg.TelemetryListen, telemetry.NewHandler(s.metrics, s.readiness.Ready, s.log), s.log)
	if err != nil {
		return fmt.Errorf("%w (VAULT_TELEMETRY_LISTEN)", err)
	}
	s.release.add(func() { _ = s.telemetry.Stop(context.Background()) })
	return nil
}

// run runs parts between what all services begin with and their readiness.
func (s *service) run(ctx context.Context, own ...process.Part) error {
	parts := []process.Part{
		{Name: "the database", Stop: s.letGo},
		s.telemetry.Part(),
		{Name: "the audit trail", Start: s.trail.Start, Stop: s.trail.Stop},
	}
	parts = append(parts, own...)
	return process.Run(ctx, s.log, s.cfg.Drain, append(parts, process.Part{
		Name:  "readiness",
		Start: func(context.Context) error { s.readiness.Serve(); return nil },
		Stop:  func(context.Context) error { s.readiness.Withdraw(); return nil },
	})...)
}

// letGo releases what the parts of the process stood on. If the time is up, a part may be using it still: the end of the
// process releases it then.
func (s *service) letGo(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.release.close()
	return nil
}

// Close releases what a process holds that is never Run. It is safe twice, and after Run.
func (s *service) Close() { s.release.close() }

// TelemetryAddr is where probes and metrics are served.
func (s *service) TelemetryAddr() net.Addr { return s.telemetry.Addr() }

// Ready tells whether the process would do its work, as its readiness probes do.
func (s *service) Ready(ctx context.Context) error { return s.readiness.Ready(ctx) }

// tellConfiguration logs what a process was told.
func tellConfiguration(log *slog.Logger, cfg slog.LogValuer) {
	log.Info("configuration", "version", process.Version, "runtime_secret", sensitive.Erases, "config", cfg)
}

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
