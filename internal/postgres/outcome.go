package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Outcome says what is known of a transaction once its commit was asked for.
type Outcome uint8

const (
	// Unknown: the answer never came, or came with a warning that the standby was not waited for. The transaction may
	// be committed, or may still be about to be.
	Unknown Outcome = iota
	// Committed: the server answered and waited for whatever synchronous_commit = on asks of it.
	Committed
	// RolledBack: nothing of it happened and nothing of it will.
	RolledBack
)

func (o Outcome) String() string {
	switch o {
	case Committed:
		return "committed"
	case RolledBack:
		return "rolled back"
	default:
		return "unknown"
	}
}

// ErrOutcomeUnknown is in the chain of every error that left a commit in doubt.
var ErrOutcomeUnknown = errors.New("the outcome of the commit is unknown")

// ErrStreamMoved means that the compare on an audit stream's head found another head, or a closed stream. Nothing was
// written.
var ErrStreamMoved = errors.New("the audit stream's head is not where this process left it")

// ErrGrantsMoved means that the grants changed after a transaction was allowed by them. It was not committed.
var ErrGrantsMoved = errors.New("the grants have changed since this was allowed")

var errCutWait = errors.New("the wait for a synchronous standby was cut short")

// errLost means that the connection was gone before anything was sent on it.
var errLost = errors.New("the connection to the database was lost")

const cutWaitKey = "sealkeep: a wait for a synchronous standby was cut short"

// noteCutWait remembers on the connection that the server gave up waiting for a synchronous standby. PostgreSQL reports that
// as a WARNING on a commit that otherwise looks successful: "canceling wait for synchronous replication" (SyncRepWaitForLSN
// in src/backend/replication/syncrep.c). Its SQLSTATE is ERRCODE_ADMIN_SHUTDOWN if the session ends too, but that of any warning
// if the wait was cancelled, and its text may be in any language: so where in the server it comes from tells it.
func noteCutWait(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.File == "syncrep.c" || n.Code == "57014" || n.Code == "57P01" {
		c.CustomData()[cutWaitKey] = true
	}
}

// isUnmarked keeps a pooled session whose last wait was cut from being used again, and blamed for it.
func isUnmarked(_ context.Context, c *pgx.Conn) (bool, error) {
	return c.PgConn().CustomData()[cutWaitKey] == nil, nil
}

// judge decides the outcome of a commit (or of a statement that commits by itself) from the error that the driver gave
// after reading up to ReadyForQuery, on a session that was open when it was sent. The driver's word that an error is safe to
// retry is not taken: MultiResultReader.NextResult drops the error of a connection that breaks after the statement was sent,
// and what comes next is "conn closed", which pgconn.SafeToRetry calls safe.
func judge(c *pgconn.PgConn, err error) Outcome {
	if c.CustomData()[cutWaitKey] != nil {
		return Unknown
	}
	if err == nil {
		return Committed
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && !c.IsClosed() {
		// An ERROR, after which the session goes on, rolled the transaction back. A FATAL one closes the connection and
		// may have come after the commit record was written.
		return RolledBack
	}
	return Unknown
}

// IsDataError tells that the server refused the values themselves (SQLSTATE class 22 or 23), so that trying them again
// can't help, and others sent along with them are not to blame.
func IsDataError(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && len(refused.Code) == 5 && (refused.Code[:2] == "22" || refused.Code[:2] == "23") &&
		!isMissingPartition(refused)
}

// isMissingPartition tells that no partition takes the row. PostgreSQL reports it as a check violation, but of no constraint
// (ExecFindPartition in src/backend/executor/execPartition.c).
func isMissingPartition(refused *pgconn.PgError) bool {
	return refused.Code == "23514" && refused.ConstraintName == ""
}
