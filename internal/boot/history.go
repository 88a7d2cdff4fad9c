package boot

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/sealkeep/sealkeep/internal/postgres"
)

// oldHistory is how old the newest record of a vault in use hardly becomes: heartbeats are written while it is asked anything.
const oldHistory = 24 * time.Hour

// tellHistory logs where the database stands that the process starts on, and warns of what a database looks like that was restored or
// failed over: a process that starts knows nothing of before, so it can't refuse what is older, only say what it found.
func tellHistory(ctx context.Context, database *postgres.DB, log *slog.Logger) error {
	state, err := database.AuthzState(ctx)
	if err != nil {
		return fmt.Errorf("reading the grants' epoch: %w", err)
	}
	server, err := database.ServerIdentity(ctx)
	if err != nil {
		return fmt.Errorf("asking the server for its identity: %w", err)
	}
	newest, err := database.NewestStream(ctx)
	if postgres.IsNotFound(err) {
		log.Warn("the audit trail is empty, although the vault was initialised: verify the audit trail", "grants_epoch", state.Epoch)
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the newest audit stream: %w", err)
	}
	found := []any{"grants_epoch", state.Epoch, "newest_record_at", newest.HeadAt.UTC()}
	log.Info("the database's history", found...)
	if newest.SystemID != server.SystemID || newest.Timeline != server.Timeline {
		log.Warn("the database was restored or failed over since the newest audit record: compare that record's time with what you know of", found...)
	}
	if age := server.ReadAt.Sub(newest.HeadAt); age > oldHistory {
		log.Warn("the newest audit record is old: if the vault has answered since, an older state of its database was restored",
			append(found, "age", age.Round(time.Minute).String())...)
	}
	return nil
}
