package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// withoutStandby is a server on which commits wait for a standby that doesn't exist, but only where a session insists on
// synchronous_commit = on: those of this package do, those of the tests' own helpers don't.
func withoutStandby(t *testing.T) *pgtest.Database {
	t.Helper()
	d := pgtest.NewServer(t, map[string]string{"synchronous_commit": "local"}).Database
	d.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = 'nowhere'")
	d.Exec(t, "SELECT pg_reload_conf()")

	// The setting takes its time to reach every process: commit until a commit waits.
	conn, err := pgx.Connect(t.Context(), withParameters(t, d.URL(pgtest.Superuser), "synchronous_commit", "on"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for err := error(nil); err == nil; {
			_, err = conn.Exec(t.Context(), "SELECT pg_logical_emit_message(true, 'something', 'to commit')")
		}
	}()
	waitForStandby(t, d, conn.PgConn().PID())
	d.Exec(t, "SELECT pg_terminate_backend($1)", int64(conn.PgConn().PID()))
	<-ended
	return d
}

// ending is what a commit or an append returned.
type ending struct {
	outcome postgres.Outcome
	err     error
}

// waitForStandby waits until a session waits for its standby.
func waitForStandby(t *testing.T, d *pgtest.Database, pid uint32) {
	t.Helper()
	for !waits(t, d, pid) {
		if t.Context().Err() != nil {
			t.Fatal(t.Context().Err())
		}
	}
}

func waits(t *testing.T, d *pgtest.Database, pid uint32) bool {
	t.Helper()
	return pgtest.Query[bool](t, d,
		"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep')", int64(pid))[0]
}

// noStandby ends the wait of everyone: commits are then as durable as they can be.
func noStandby(t *testing.T, d *pgtest.Database) {
	t.Helper()
	d.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = ''")
	d.Exec(t, "SELECT pg_reload_conf()")
}

// PostgreSQL answers such a commit with success and a warning: what was committed has no standby, and who reads it next
// may lose it. It must not count as committed, nor as rolled back.
func TestI13_CommitWhoseWaitIsCutIsUnknown(t *testing.T) {
	t.Parallel()
	d := withoutStandby(t)
	database := open(t, d.URL("sealkeep_api"))
	for i, cut := range []string{"pg_cancel_backend", "pg_terminate_backend"} {
		check := func(t *testing.T, got ending) {
			t.Helper()
			if got.outcome != postgres.Unknown || !errors.Is(got.err, postgres.ErrOutcomeUnknown) {
				t.Errorf("outcome %s: %v", got.outcome, got.err)
			}
			if kind := fault.KindOf(postgres.Fault(got.err)); kind != fault.Unavailable {
				t.Errorf("the error is %s", kind)
			}
		}
		t.Run("in a transaction by "+cut, func(t *testing.T) {
			tx, name, done := begin(t, database), fmt.Sprint("role", i), make(chan ending, 1)
			role(t, tx, name)
			pid := tx.Raw().Conn().PgConn().PID()
			go func() {
				outcome, err := tx.Commit(t.Context())
				done <- ending{outcome, err}
			}()
			waitForStandby(t, d, pid)
			d.Exec(t, "SELECT "+cut+"($1)", int64(pid))
			check(t, <-done)
			// It is neither one nor the other: committed on the primary, on no standby.
			if roles(t, d, name) != 1 {
				t.Error("the commit did not take effect: the test shows nothing")
			}
			after := begin(t, database)
			defer after.Rollback(t.Context())
			if after.Raw().Conn().PgConn().PID() == pid {
				t.Error("the session is used again")
			}
		})
		t.Run("of an append by "+cut, func(t *testing.T) {
			conn, s, done := auditConn(t, database), openStream(t, d), make(chan ending, 1)
			pid := conn.Raw().PgConn().PID()
			go func() {
				_, outcome, err := conn.Append(t.Context(), s.next(2))
				done <- ending{outcome, err}
			}()
			waitForStandby(t, d, pid)
			d.Exec(t, "SELECT "+cut+"($1)", int64(pid))
			check(t, <-done)
			if got := stateOf(t, d, s); got.HeadSeq != 2 {
				t.Errorf("the append did not take effect, the test shows nothing: %v", got)
			}
			if conn.Alive(t.Context()) {
				t.Error("the connection is still used")
			}
		})
	}
}

func TestI13_CancelledContextCutsNoCommit(t *testing.T) {
	t.Parallel()
	d := withoutStandby(t)
	database := openWith(t, postgres.Config{ConnString: d.URL("sealkeep_api"), SilenceLimit: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	tx, conn, s := begin(t, database), auditConn(t, database), openStream(t, d)
	role(t, tx, "kept")
	committed, appended := make(chan ending, 1), make(chan ending, 1)
	pids := []uint32{tx.Raw().Conn().PgConn().PID(), conn.Raw().PgConn().PID()}
	go func() {
		outcome, err := tx.Commit(ctx)
		committed <- ending{outcome, err}
	}()
	go func() {
		_, outcome, err := conn.Append(ctx, s.next(1))
		appended <- ending{outcome, err}
	}()
	for _, pid := range pids {
		waitForStandby(t, d, pid)
	}
	cancel()
	for range 50 { // a cancel request would need a moment to arrive
		for _, pid := range pids {
			if !waits(t, d, pid) {
				t.Fatal("a commit no longer waits")
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	noStandby(t, d)
	for what, done := range map[string]chan ending{"commit": committed, "append": appended} {
		if got := <-done; got != (ending{postgres.Committed, nil}) {
			t.Errorf("%s: outcome %s: %v", what, got.outcome, got.err)
		}
	}
	if got := stateOf(t, d, s); got.HeadSeq != 1 || roles(t, d, "kept") != 1 {
		t.Errorf("the stream is at %d, and there are %d roles", got.HeadSeq, roles(t, d, "kept"))
	}

	t.Run("not even one that was cancelled before", func(t *testing.T) {
		tx := begin(t, database)
		role(t, tx, "late")
		if outcome, err := tx.Commit(ctx); outcome != postgres.Committed || err != nil || roles(t, d, "late") != 1 {
			t.Errorf("commit: outcome %s: %v", outcome, err)
		}
		if _, outcome, err := auditConn(t, database).Append(ctx, openStream(t, d).next(1)); outcome != postgres.Committed || err != nil {
			t.Errorf("append: outcome %s: %v", outcome, err)
		}
	})
}

func TestI13_SilenceOfAnAppendIsUnknown(t *testing.T) {
	t.Parallel()
	d := withoutStandby(t)
	database := openWith(t, postgres.Config{ConnString: d.URL("sealkeep_api"), SilenceLimit: 200 * time.Millisecond})
	conn := auditConn(t, database)
	_, outcome, err := conn.Append(t.Context(), openStream(t, d).next(1))
	if outcome != postgres.Unknown || !errors.Is(err, postgres.ErrOutcomeUnknown) {
		t.Errorf("outcome %s: %v", outcome, err)
	}
	if conn.Alive(t.Context()) {
		t.Error("the connection is still used")
	}
	noStandby(t, d)
}

// A statement that commits by itself leaves its mark on the session, and the next commit must not bear the blame.
func TestI13_CutWaitIsNotBlamedOnALaterCommit(t *testing.T) {
	t.Parallel()
	d := withoutStandby(t)
	database := openWith(t, postgres.Config{ConnString: d.URL("sealkeep_api"), MaxConns: 1})
	tx := begin(t, database)
	pid := tx.Raw().Conn().PgConn().PID()
	tx.Rollback(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := database.EnsurePartitions(t.Context(), 30)
		done <- err
	}()
	waitForStandby(t, d, pid)
	d.Exec(t, "SELECT pg_cancel_backend($1)", int64(pid))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	noStandby(t, d)
	tx = begin(t, database)
	role(t, tx, "later")
	if outcome, err := tx.Commit(t.Context()); outcome != postgres.Committed || err != nil {
		t.Errorf("outcome %s: %v", outcome, err)
	}
}

// The server may complete a statement and refuse it all the same when it commits: what it says last counts.
func TestI2_RefusalAtTheCommitIsARollback(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	d.Exec(t, `
		CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$;
		CREATE CONSTRAINT TRIGGER late AFTER INSERT ON vault.roles DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW WHEN (NEW.name = 'refused') EXECUTE FUNCTION public.refuse();
		CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON vault.audit_streams DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW WHEN (NEW.head_seq = 2) EXECUTE FUNCTION public.refuse()`)
	database := openWith(t, postgres.Config{ConnString: d.URL("sealkeep_api"), MaxConns: 1})
	tx := begin(t, database)
	pid := tx.Raw().Conn().PgConn().PID()
	role(t, tx, "refused")
	if outcome, err := tx.Commit(t.Context()); outcome != postgres.RolledBack || err == nil || roles(t, d, "refused") != 0 {
		t.Errorf("outcome %s: %v; %d roles", outcome, err, roles(t, d, "refused"))
	}
	tx = begin(t, database)
	if tx.Raw().Conn().PgConn().PID() != pid {
		t.Error("a session without any doubt was given up")
	}
	tx.Rollback(t.Context())

	conn, s := auditConn(t, database), openStream(t, d)
	result, outcome, err := conn.Append(t.Context(), s.next(2))
	if outcome != postgres.RolledBack || err == nil || !reflect.DeepEqual(result, postgres.Appended{}) {
		t.Errorf("outcome %s: %+v, %v", outcome, result, err)
	}
	if got, want := stateOf(t, d, s), (state{0, mac(0), []int64{}}); !reflect.DeepEqual(got, want) {
		t.Errorf("the database has %v", got)
	}
	commits(t, conn, s.next(1))
}

func TestCommit_AfterAFailedStatementIsARollback(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	database := open(t, d.URL("sealkeep_api"))
	tx := begin(t, database)
	role(t, tx, "half")
	if _, err := tx.Raw().Exec(t.Context(), "SELECT 1/0"); err == nil {
		t.Fatal("nothing failed")
	}
	if outcome, err := tx.Commit(t.Context()); outcome != postgres.RolledBack || err == nil || roles(t, d, "half") != 0 {
		t.Errorf("outcome %s: %v; %d roles", outcome, err, roles(t, d, "half"))
	}
}

// Who finds a session gone can't know when it went.
func TestCommit_OnASessionThatWasEndedIsNoCommit(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	database := open(t, d.URL("sealkeep_api"))
	tx, conn, s := begin(t, database), auditConn(t, database), openStream(t, d)
	role(t, tx, "gone")
	d.Exec(t, `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'tested'`)
	if outcome, err := tx.Commit(t.Context()); outcome == postgres.Committed || err == nil || roles(t, d, "gone") != 0 {
		t.Errorf("outcome %s: %v; %d roles", outcome, err, roles(t, d, "gone"))
	}
	if _, outcome, err := conn.Append(t.Context(), s.next(1)); outcome == postgres.Committed || err == nil {
		t.Errorf("outcome %s: %v", outcome, err)
	}
	if conn.Alive(t.Context()) {
		t.Error("the connection is alive")
	}
	// Nothing was sent, so nothing is in doubt.
	if _, outcome, err := conn.Append(t.Context(), s.next(1)); outcome != postgres.RolledBack || err == nil {
		t.Errorf("on a closed connection: outcome %s: %v", outcome, err)
	}
	if got := stateOf(t, d, s); got.HeadSeq != 0 {
		t.Errorf("the database has %v", got)
	}
}

func TestInTx_CommitsOnlyWhatReturnsNoError(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	database := open(t, d.URL("sealkeep_api"))
	wrong := errors.New("wrong")
	for name, want := range map[string]error{"kept": nil, "dropped": wrong} {
		err := database.InTx(t.Context(), func(tx *postgres.Tx) error {
			role(t, tx, name)
			return want
		})
		if !errors.Is(err, want) || (roles(t, d, name) == 1) != (want == nil) {
			t.Errorf("%s: %v, %d roles", name, err, roles(t, d, name))
		}
	}
	if _, inUse, _ := database.PoolStats(); inUse != 0 {
		t.Errorf("%d connections are still in use", inUse)
	}
}
