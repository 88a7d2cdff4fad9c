package boot

import (
	"context"
	"log/slog"

	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// OpenOffline connects what offline commands work with: the database and the key keeper. The schema isn't checked, as
// some commands come before there is one. The caller must call release, which ends the connections, and keeps cfg,
// whose master key is needed no more.
func OpenOffline(ctx context.Context, cfg *Offline, log *slog.Logger) (database *postgres.DB, k vault.Keeper, release func(), err error) {
	var c closers
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	opened, err := newKeeper(ctx, cfg.KMS, cfg.masterKey, cfg.allowedKeys, log, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	c.add(opened.Close)
	warnDatabase(log, cfg.Database)
	name, err := processName("sealkeep", randomness.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	if database, err = openDatabase(ctx, cfg.Database, name); err != nil {
		return nil, nil, nil, err
	}
	c.add(database.Close)
	return database, opened, c.close, nil
}
