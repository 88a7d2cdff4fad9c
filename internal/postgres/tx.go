package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// Tx is one transaction on one pooled connection. It belongs to one goroutine and must end in Commit or Rollback.
type Tx struct {
	*db.Queries

	db    *DB
	conn  *pgxpool.Conn
	tx    pgx.Tx
	epoch int64 // of the grants that allowed what is done here; 0 for none
}

// UnderEpoch says that what this transaction does was allowed by the grants of that epoch: Append then refuses any other.
// 0 takes it back.
func (t *Tx) UnderEpoch(epoch int64) { t.epoch = epoch }

// BumpEpoch raises the grants' epoch, and waits for whoever else is about to. ErrGrantsMoved means that somebody was
// first, after this transaction was allowed.
func (t *Tx) BumpEpoch(ctx context.Context) error {
	bumped, err := t.Queries.BumpEpoch(ctx)
	if err != nil {
		return err
	}
	if t.epoch != 0 {
		if bumped != t.epoch+1 {
			return ErrGrantsMoved
		}
		t.epoch = bumped
	}
	return nil
}

// Begin starts a transaction. ctx bounds waiting for a connection and the BEGIN, not the transaction.
func (d *DB) Begin(ctx context.Context) (*Tx, error) {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("no connection to the database: %w", err)
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		conn.Release()
		return nil, fmt.Errorf("begin: %w", err)
	}
	return &Tx{Queries: db.New(tx), db: d, conn: conn, tx: tx}, nil
}

// Commit commits and says what became of it. The commit is not cancelled when ctx is: it runs to its answer, or until the
// connection stays silent past the limit. The error of an Unknown outcome wraps ErrOutcomeUnknown.
func (t *Tx) Commit(ctx context.Context) (Outcome, error) {
	defer t.conn.Release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.db.silence)
	defer cancel()

	session := t.conn.Conn().PgConn()
	if session.IsClosed() {
		return RolledBack, errLost
	}
	err := t.tx.Commit(ctx)
	outcome := judge(session, err)
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		outcome = RolledBack
	}
	switch outcome {
	case Committed:
		return Committed, nil
	case RolledBack:
		return RolledBack, fmt.Errorf("commit: %w", err)
	default:
		// The session may carry the mark of a cut wait: it is not used again.
		_ = t.conn.Conn().Close(ctx)
		if err == nil {
			err = errCutWait
		}
		return Unknown, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
}

// Rollback ends the transaction without effect. A connection on which even that fails is closed, which rolls back too.
func (t *Tx) Rollback(ctx context.Context) {
	defer t.conn.Release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.db.silence)
	defer cancel()
	if err := t.tx.Rollback(ctx); err != nil {
		_ = t.conn.Conn().Close(ctx)
	}
}

// InTx runs fn in a transaction and commits it if fn returns nil. It is for housekeeping, and for the offline commands, which
// append their own evidence in it; a serving process changes the vault's content in the audit trail's transactions alone.
func (d *DB) InTx(ctx context.Context, fn func(*Tx) error) error {
	tx, err := d.Begin(ctx)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		tx.Rollback(ctx)
		return err
	}
	_, err = tx.Commit(ctx)
	return err
}
