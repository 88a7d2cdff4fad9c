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
	opened, err := newKeeper(ctx, cfg.KMS, cfg.masterKey, cfg.allowedKeys, slog.New(belowErrors{log.Handler()}), nil)
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

// belowErrors leaves out what a keeper logs as an error: it also returns that, and the command prints what it is returned.
type belowErrors struct{ slog.Handler }

func (h belowErrors) Enabled(ctx context.Context, level slog.Level) bool {
	return level < slog.LevelError && h.Handler.Enabled(ctx, level)
}

func (h belowErrors) WithAttrs(attrs []slog.Attr) slog.Handler {
	return belowErrors{h.Handler.WithAttrs(attrs)}
}

func (h belowErrors) WithGroup(name string) slog.Handler {
	return belowErrors{h.Handler.WithGroup(name)}
}
