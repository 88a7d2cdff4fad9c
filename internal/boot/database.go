package boot

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

const (
	// databasePatience is how long a process waits for a primary at its start: programs and their database are often
	// started together.
	databasePatience = 30 * time.Second
	databaseRetry    = 250 * time.Millisecond
)

func openDatabase(ctx context.Context, cfg config.Database, name string) (*postgres.DB, error) {
	database, err := postgres.Open(ctx, postgres.Config{ConnString: cfg.ConnString(), Process: name, MaxConns: cfg.MaxConns})
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	return database, nil
}

// awaitDatabase returns nil once a primary answers. An answer that waiting doesn't change (a wrong password, a database
// that doesn't exist) ends it at once.
func awaitDatabase(ctx context.Context, database *postgres.DB, cfg config.Database, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, databasePatience)
	defer cancel()
	retry := time.NewTicker(databaseRetry)
	defer retry.Stop()
	var last error
	for {
		err := database.Ping(ctx)
		switch {
		case err == nil:
			return nil
		case fault.KindOf(postgres.Fault(err)) != fault.Unavailable:
			return fmt.Errorf("the database at %s refuses this login (VAULT_DATABASE_URL or VAULT_PG_*): %w", cfg.Hosts(), err)
		case last == nil:
			log.Warn("waiting for the database", "hosts", cfg.Hosts(), "error", err)
		}
		if last == nil || ctx.Err() == nil { // of an attempt that was cut short there is nothing to learn
			last = err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("no primary database answers at %s (VAULT_DATABASE_URL or VAULT_PG_*): %w", cfg.Hosts(), last)
		}
	}
}

// observeDatabase publishes how the pool is used.
func observeDatabase(metrics prometheus.Registerer, database *postgres.DB) error {
	for state, read := range map[string]func() int32{
		"open":   func() int32 { total, _, _ := database.PoolStats(); return total },
		"in_use": func() int32 { _, inUse, _ := database.PoolStats(); return inUse },
		"limit":  func() int32 { _, _, limit := database.PoolStats(); return limit },
	} {
		err := metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "sealkeep_database_connections",
			Help:        "Pooled connections to the database, by state; the audit trail's own are not among them.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(read()) }))
		if err != nil {
			return fmt.Errorf("publishing the pool's metrics: %w", err)
		}
	}
	return nil
}
