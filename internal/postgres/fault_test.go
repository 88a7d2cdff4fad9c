package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

const leak = "canary-7f31"

// refused is a server's error every field of which would give something away.
func refused(code string) *pgconn.PgError {
	return &pgconn.PgError{
		Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: leak, Detail: leak, Hint: leak, Where: leak,
		InternalQuery: leak, SchemaName: leak, TableName: leak, ColumnName: leak, DataTypeName: leak, ConstraintName: leak,
		File: leak, Routine: leak,
	}
}

func TestI11_FaultsHaveAKindAndTellNothingOfTheServer(t *testing.T) {
	t.Parallel()
	missing := refused("23514")
	missing.ConstraintName = ""
	for _, test := range []struct {
		err  error
		want fault.Kind
	}{
		{refused("23505"), fault.Conflict},    // unique_violation
		{refused("23514"), fault.Internal},    // check_violation
		{refused("23503"), fault.Internal},    // foreign_key_violation
		{refused("22021"), fault.Internal},    // character_not_in_repertoire
		{refused("42501"), fault.Internal},    // insufficient_privilege
		{refused("42P01"), fault.Internal},    // undefined_table
		{refused("28P01"), fault.Internal},    // invalid_password
		{refused("3D000"), fault.Internal},    // invalid_catalog_name
		{refused("XX000"), fault.Internal},    // internal_error
		{refused("XX001"), fault.Internal},    // data_corrupted
		{refused("P0001"), fault.Internal},    // raise_exception
		{refused("25P02"), fault.Internal},    // in_failed_sql_transaction
		{refused(""), fault.Internal},         // no SQLSTATE at all
		{refused("5"), fault.Internal},        // half of one
		{refused("08006"), fault.Unavailable}, // connection_failure
		{refused("25006"), fault.Unavailable}, // read_only_sql_transaction: a standby
		{refused("25P03"), fault.Unavailable}, // idle_in_transaction_session_timeout
		{refused("40001"), fault.Unavailable}, // serialization_failure
		{refused("40P01"), fault.Unavailable}, // deadlock_detected
		{refused("53100"), fault.Unavailable}, // disk_full
		{refused("53300"), fault.Unavailable}, // too_many_connections
		{refused("55000"), fault.Unavailable}, // object_not_in_prerequisite_state
		{refused("55P03"), fault.Unavailable}, // lock_not_available
		{refused("57014"), fault.Unavailable}, // query_canceled
		{refused("57P01"), fault.Unavailable}, // admin_shutdown
		{refused("57P03"), fault.Unavailable}, // cannot_connect_now
		{refused("58030"), fault.Unavailable}, // io_error
		{missing, fault.Unavailable},          // no partition takes the record
		{pgx.ErrNoRows, fault.NotFound},       //
		{postgres.ErrStreamMoved, fault.Unavailable},
		{fmt.Errorf("%w: %w", postgres.ErrOutcomeUnknown, refused("23505")), fault.Unavailable},
		{context.Canceled, fault.Unavailable},
		{context.DeadlineExceeded, fault.Unavailable},
		{io.ErrUnexpectedEOF, fault.Unavailable},
		{&net.OpError{Op: "dial", Err: errors.New(leak)}, fault.Unavailable},
		{errors.New(leak), fault.Unavailable},
	} {
		for _, err := range []error{test.err, fmt.Errorf("%s: %w", leak, test.err)} {
			got := postgres.Fault(err)
			kind, code, message, _ := fault.Public(got)
			if kind != test.want {
				t.Errorf("%v is %s, want %s", err, kind, test.want)
			}
			if strings.Contains(code+message, leak) {
				t.Errorf("%v is told as %s: %s", err, code, message)
			}
			if !errors.Is(got, test.err) {
				t.Errorf("the cause of %v is lost to the log", err)
			}
		}
	}
}

func TestFault_LeavesFaultsAndSuccessAlone(t *testing.T) {
	t.Parallel()
	if err := postgres.Fault(nil); err != nil {
		t.Error(err)
	}
	known := fault.Wrap(fault.Denied, refused("23505"), "no")
	for _, err := range []error{known, fmt.Errorf("wrapped: %w", known)} {
		if got := postgres.Fault(err); got != err { //nolint:errorlint // the very same
			t.Errorf("%v became %v", err, got)
		}
	}
}

func TestFault_KnowsWhatTheDatabaseSays(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	database := open(t, d.URL("sealkeep_api"))
	insert := func() error {
		return database.InsertRole(t.Context(), db.InsertRoleParams{ID: uuid.New(), Name: leak})
	}
	if err := insert(); err != nil {
		t.Fatal(err)
	}
	err := insert()
	if kind := fault.KindOf(postgres.Fault(err)); kind != fault.Conflict || !postgres.IsUniqueViolation(err) || !postgres.IsDataError(err) {
		t.Errorf("a name that is taken: %s, %v", kind, err)
	}
	if _, _, message, _ := fault.Public(postgres.Fault(err)); strings.Contains(message, leak) || !strings.Contains(err.Error(), "roles_name_key") {
		t.Errorf("of %v it is told %q", err, message)
	}
	_, err = database.LockSecret(t.Context(), "nobody")
	if kind := fault.KindOf(postgres.Fault(err)); kind != fault.NotFound || !postgres.IsNotFound(err) || postgres.IsDataError(err) {
		t.Errorf("a name that is unknown: %s, %v", kind, err)
	}
	d.Exec(t, "INSERT INTO vault.secrets (id, name, kind, format, current_version) VALUES (gen_random_uuid(), $1, 'manual', 'opaque', 1)", leak)
	tx := begin(t, database)
	defer tx.Rollback(t.Context())
	if _, err := tx.LockSecret(t.Context(), leak); err != nil {
		t.Fatal(err)
	}
	_, err = database.LockSecret(t.Context(), leak)
	if kind := fault.KindOf(postgres.Fault(err)); kind != fault.Unavailable {
		t.Errorf("a row that somebody holds: %s, %v", kind, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if kind := fault.KindOf(postgres.Fault(database.Ping(ctx))); kind != fault.Unavailable {
		t.Errorf("a cancelled context: %s", kind)
	}
}

func TestI4_UnreachableDatabaseIsUnavailable(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := listener.Addr().String() // connections wait there for an answer
	t.Cleanup(func() { _ = listener.Close() })
	gone, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := gone.Addr().String()
	_ = gone.Close()
	for name, host := range map[string]string{
		"nobody listens": closed, "nobody answers": silent, "on several hosts": closed + "," + silent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := openWith(t, postgres.Config{
				ConnString:     "postgres://u:" + leak + "@" + host + "/" + leak + "?sslmode=disable",
				ConnectTimeout: 200 * time.Millisecond,
			})
			_, errBegin := database.Begin(t.Context())
			_, errAudit := database.AuditConn(t.Context())
			_, errRead := database.AuthzState(t.Context())
			errSnapshot := database.Snapshot(t.Context(), func(*postgres.Snapshot) error { return nil })
			for doing, err := range map[string]error{
				"ping": database.Ping(t.Context()), "begin": errBegin, "audit": errAudit, "read": errRead, "snapshot": errSnapshot,
				"schema": database.CheckSchema(t.Context()), "in a transaction": database.InTx(t.Context(), nil),
			} {
				kind, _, message, _ := fault.Public(postgres.Fault(err))
				if err == nil || kind != fault.Unavailable || strings.Contains(message, leak) {
					t.Errorf("%s: %s, %q: %v", doing, kind, message, err)
				}
				if err != nil && strings.Contains(err.Error(), "u:"+leak) {
					t.Errorf("%s: the log would hold the password: %v", doing, err)
				}
			}
		})
	}
}
