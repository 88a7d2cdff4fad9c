package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// Snapshot is one read-only moment of the database.
type Snapshot struct {
	*db.Queries

	tx pgx.Tx
}

// Snapshot runs fn on one read-only snapshot of the database, so that what it reads in many statements belongs together.
func (d *DB) Snapshot(ctx context.Context, fn func(*Snapshot) error) error {
	tx, err := d.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("starting a snapshot: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.silence)
		defer cancel()
		_ = tx.Rollback(ctx) // it only read
	}()
	return fn(&Snapshot{Queries: db.New(tx), tx: tx})
}

// Grants reads all rows that hold grants, as they were at that moment.
func (s *Snapshot) Grants(ctx context.Context) ([]GrantRow, error) { return readGrants(ctx, s.tx) }
