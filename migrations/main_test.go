package migrations_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The logins of the harness, by the group role that each is the only member of.
var logins = map[string]string{
	"vault_api":       "sealkeep_api",
	"vault_rotator":   "sealkeep_rotator",
	"vault_auditship": "sealkeep_auditship",
	"vault_operator":  "sealkeep_operator",
}

// SQLSTATEs that a refusal may have.
const (
	denied       = "42501" // insufficient_privilege: a grant, row security, and the audit's own triggers
	notReady     = "55000" // object_not_in_prerequisite_state
	lockTimedOut = "55P03" // lock_not_available
	noSuchTable  = "42P01" // undefined_table
	badParameter = "22023" // invalid_parameter_value
	checkFailed  = "23514" // check_violation, a missing partition too
	succeeded    = ""
)

// connect opens a connection of one of the database's users.
func connect(t *testing.T, d *pgtest.Database, user string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.URL(user))
	if err != nil {
		t.Fatalf("connecting as %s: %v", user, err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// try runs statements in a transaction, rolls it back, and returns the SQLSTATE of what went wrong, if anything did.
func try(t *testing.T, conn *pgx.Conn, statements ...string) *pgconn.PgError {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // what matters is the statement's own error
	for _, sql := range statements {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			return refusal(t, err)
		}
	}
	return nil
}

// refusal returns the server's error in err; anything else ends the test.
func refusal(t *testing.T, err error) *pgconn.PgError {
	t.Helper()
	var refused *pgconn.PgError
	if err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
	return refused
}

func state(refused *pgconn.PgError) string {
	if refused == nil {
		return succeeded
	}
	return refused.Code
}

// value returns the one value of a query.
func value[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	result, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return result
}
