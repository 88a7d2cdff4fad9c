package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// Fault gives an error of this package its kind. Errors that already are faults, and nil, come back as they are. The
// server's own words stay in the cause and never reach a client.
func Fault(err error) error {
	var known *fault.Error
	var refused *pgconn.PgError
	var unreadable pgx.ScanArgError
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.Is(err, pgx.ErrNoRows):
		return fault.Wrap(fault.NotFound, err, "")
	case errors.Is(err, ErrOutcomeUnknown), errors.Is(err, ErrStreamMoved), errors.Is(err, ErrGrantsMoved),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.Wrap(fault.Unavailable, err, "")
	case errors.As(err, &refused) && (isMissingPartition(refused) || isUntrueTime(refused)):
		return fault.Wrap(fault.Unavailable, err, "")
	case errors.As(err, &refused):
		return fault.Wrap(kindOfState(refused.Code), err, "")
	case errors.As(err, &unreadable):
		// A value that none of ours can be, such as a NULL where somebody dropped the constraint: asking again helps nobody.
		return fault.Wrap(fault.Internal, err, "")
	default:
		// The network, and connecting. What the driver couldn't classify is most often a connection that ended under it; a bug
		// would be loud in the log either way. Both fail closed.
		return fault.Wrap(fault.Unavailable, err, "")
	}
}

// kindOfState maps an SQLSTATE (PostgreSQL documentation, appendix A) to a kind.
func kindOfState(state string) fault.Kind {
	switch state {
	case "23505": // unique_violation
		return fault.Conflict
	case "55P03", "55000", "40001", "40P01", "25006", "25P03":
		// lock_not_available, object_not_in_prerequisite_state, serialization_failure, deadlock_detected, read_only_sql_transaction, idle_in_transaction_session_timeout
		return fault.Unavailable
	}
	switch state[:min(2, len(state))] {
	case "08", "57", "58", "53": // connection, operator intervention, system, resources
		return fault.Unavailable
	}
	return fault.Internal
}

// isUntrueTime tells that a record's time isn't the database's: no other row of ours is checked by a policy. The server gives that
// the code of a missing right (src/backend/executor/execMain.c).
func isUntrueTime(refused *pgconn.PgError) bool {
	return refused.Code == "42501" && refused.Routine == "ExecWithCheckOptions"
}

// IsUniqueViolation tells that a row with that key exists already.
func IsUniqueViolation(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "23505"
}

// IsNotFound tells that a query for one row found none.
func IsNotFound(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

// IsLockTimeout tells that somebody held a lock for longer than a session waits for one.
func IsLockTimeout(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "55P03"
}
