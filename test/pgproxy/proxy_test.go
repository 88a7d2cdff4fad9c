package pgproxy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	insert = "insert"
	commit = "commit"
)

func classify(sql string, tx Transaction) string {
	switch {
	case strings.HasPrefix(sql, "INSERT"):
		return insert
	case sql == "commit" && tx.Seen[insert]:
		return commit
	}
	return ""
}

type bench struct {
	proxy *Proxy
	db    *pgtest.Database
	url   string
}

func setup(t *testing.T) *bench {
	t.Helper()
	b := &bench{proxy: New(t, classify), db: pgtest.NewEmpty(t)}
	b.db.Exec(t, "CREATE TABLE t (n int PRIMARY KEY)")
	var err error
	if b.url, err = b.proxy.Through(b.db.TCPURL(pgtest.Superuser)); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (b *bench) rows(t *testing.T) int64 {
	t.Helper()
	return pgtest.Query[int64](t, b.db, "SELECT count(*) FROM t")[0]
}

// insertOne inserts in a pipelined statement that commits by itself, and says whether its row was seen.
func insertOne(ctx context.Context, conn *pgx.Conn, n int) (seen bool, err error) {
	batch := &pgx.Batch{}
	batch.Queue("INSERT INTO t VALUES ($1) RETURNING n", n).QueryRow(func(row pgx.Row) error {
		var got int
		err := row.Scan(&got)
		seen = err == nil
		return err
	})
	err = conn.SendBatch(ctx, batch).Close()
	return seen, err
}

func TestProxy_ChangesNothingWithoutAFault(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.connect(t)
	for n := range 3 {
		if seen, err := insertOne(t.Context(), conn, n); err != nil || !seen {
			t.Fatalf("seen %v, error %v", seen, err)
		}
	}
	_, err := insertOne(t.Context(), conn, 1)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "23505" {
		t.Errorf("the server's error came as %v", err)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "INSERT INTO t VALUES ($1)", 9); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := b.rows(t); n != 4 {
		t.Errorf("%d rows", n)
	}
}

// TestFault_WhatTakesEffect fixes what each cut means for the statement: those before the server has a whole Sync undo
// it, those after it don't, and what the client saw says nothing of that.
func TestFault_WhatTakesEffect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		fault     Fault
		committed bool
		seen      bool
	}{
		{"before Bind", Fault{Side: Client, Message: Bind, Action: CutBefore}, false, false},
		{"within Bind", Fault{Side: Client, Message: Bind, Action: CutWithin}, false, false},
		{"after Execute", Fault{Side: Client, Message: Execute, Action: CutAfter}, false, false},
		{"within Sync", Fault{Side: Client, Message: Sync, Action: CutWithin}, false, false},
		{"exposed", Fault{Side: Client, Message: Sync, Action: Expose}, false, true},
		{"after Sync", Fault{Side: Client, Message: Sync, Action: CutAfter}, true, false},
		{"within the row", Fault{Side: Server, Message: DataRow, Action: CutWithin}, true, false},
		{"after CommandComplete", Fault{Side: Server, Message: CommandComplete, Action: CutAfter}, true, true},
		{"before ReadyForQuery", Fault{Side: Server, Message: ReadyForQuery, Action: CutBefore}, true, true},
		{"within ReadyForQuery", Fault{Side: Server, Message: ReadyForQuery, Action: CutWithin}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			conn := b.connect(t)
			c.fault.Kind = insert
			i := b.proxy.Inject(c.fault)
			seen, err := insertOne(t.Context(), conn, 1)
			if err == nil || !conn.IsClosed() {
				t.Errorf("the connection was not cut: %v", err)
			}
			if i.Count() != 1 {
				t.Errorf("the fault struck %d times", i.Count())
			}
			if seen != c.seen {
				t.Errorf("the client saw the row: %v", seen)
			}
			b.settled(t)
			if committed := b.rows(t) == 1; committed != c.committed {
				t.Errorf("committed: %v", committed)
			}
		})
	}
}

// settled waits until the server has ended the sessions that came through the proxy.
func (b *bench) settled(t *testing.T) {
	t.Helper()
	for pgtest.Query[int64](t, b.db, `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND client_addr IS NOT NULL`)[0] > 0 {
		if t.Context().Err() != nil {
			t.Fatal("a session stays")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestFault_StrikesOnlyItsKindAndAsOftenAsAsked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	i := b.proxy.Inject(Fault{Kind: commit, Side: Client, Action: CutBefore, Times: 2})
	for n := range 3 {
		conn := b.connect(t)
		if _, err := insertOne(t.Context(), conn, 10+n); err != nil {
			t.Fatalf("a statement of another kind failed: %v", err)
		}
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "INSERT INTO t VALUES ($1)", n); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context()); (err != nil) != (n < 2) {
			t.Errorf("commit %d: %v", n, err)
		}
	}
	if i.Count() != 2 {
		t.Errorf("the fault struck %d times", i.Count())
	}
	if n := b.rows(t); n != 4 {
		t.Errorf("%d rows", n)
	}
}

func TestFault_HoldsUntilReleased(t *testing.T) {
	t.Parallel()
	for action, committed := range map[Action]bool{Swallow: true, Stall: true, ExposeAndHold: false} {
		t.Run(action.String(), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			conn := b.connect(t)
			fault := Fault{Kind: insert, Side: Server, Message: ReadyForQuery, Action: action}
			if action == ExposeAndHold {
				fault.Side, fault.Message = Client, Sync
			}
			i := b.proxy.Inject(fault)
			done := make(chan error, 1)
			go func() {
				_, err := insertOne(context.Background(), conn, 1)
				done <- err
			}()
			<-i.Struck()
			select {
			case err := <-done:
				t.Fatalf("it was not held: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			i.Release()
			if err := <-done; (err == nil) != (action == Stall) {
				t.Errorf("after the release: %v", err)
			}
			_ = conn.Close(context.Background())
			b.settled(t)
			if (b.rows(t) == 1) != committed {
				t.Errorf("committed: %v", !committed)
			}
		})
	}
}

// TestProxy_CutsThoseThatRanAKind also fixes that a statement which was prepared once is known again by its name alone.
func TestProxy_CutsThoseThatRanAKind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if n := b.proxy.CutThose(insert); n != 0 {
		t.Fatalf("%d of no connections were cut", n)
	}
	writer, reader := b.connect(t), b.connect(t)
	prepared := b.connect(t)
	if _, err := prepared.Prepare(t.Context(), "once", "INSERT INTO t VALUES ($1)"); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		if _, err := insertOne(t.Context(), writer, n); err != nil {
			t.Fatal(err)
		}
		if err := reader.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.proxy.CutThose(insert); n != 1 {
		t.Errorf("%d connections were cut, not the one that has inserted", n)
	}
	if err := writer.Ping(t.Context()); err == nil {
		t.Error("the connection that has inserted stands")
	}
	if _, err := prepared.Exec(t.Context(), "once", 7); err != nil {
		t.Errorf("a connection that had only prepared an insert was cut: %v", err)
	}
	if n := b.proxy.CutThose(insert); n != 1 {
		t.Errorf("%d connections were cut, not the one that inserts by a prepared statement's name", n)
	}
	if err := prepared.Ping(t.Context()); err == nil {
		t.Error("the connection that has inserted by a prepared statement's name stands")
	}
	if err := reader.Ping(t.Context()); err != nil {
		t.Errorf("a connection that never inserted was cut: %v", err)
	}
}

func TestProxy_FreezesRefusesAndCuts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.connect(t)
	b.proxy.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := conn.Ping(ctx); err == nil {
		t.Error("a frozen proxy passed something on")
	}
	b.proxy.Thaw()
	conn = b.connect(t)
	if err := conn.Ping(t.Context()); err != nil {
		t.Errorf("after the thaw: %v", err)
	}
	b.proxy.Refuse(true)
	if _, err := pgx.Connect(t.Context(), b.url); err == nil {
		t.Error("a connection was not refused")
	}
	if err := conn.Ping(t.Context()); err != nil {
		t.Errorf("the connection that stood: %v", err)
	}
	b.proxy.CutAll()
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a connection survived the cut")
	}
	b.proxy.Refuse(false)
	b.connect(t)
}
