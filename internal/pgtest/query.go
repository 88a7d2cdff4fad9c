package pgtest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// statementLimit keeps a statement that waits for ever from hanging the test.
const statementLimit = time.Minute

// Super returns a connection of the superuser, the same one each time, for one goroutine at a time. It is closed when
// the test that made the database ends.
func (d *Database) Super(t testing.TB) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), statementLimit)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.connection(ctx, t, &d.super)
}

// Exec runs SQL as the superuser. Without arguments it may be several statements. Safe for concurrent use.
func (d *Database) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), statementLimit)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.connection(ctx, t, &d.conn).Exec(ctx, sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Query returns the rows of a query run as the superuser. A single column is scanned into T, several into the fields
// of the struct T, by position. Safe for concurrent use.
func Query[T any](t testing.TB, d *Database, sql string, args ...any) []T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), statementLimit)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	rows, err := d.connection(ctx, t, &d.conn).Query(ctx, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	scan := pgx.RowToStructByPos[T]
	if len(rows.FieldDescriptions()) == 1 {
		scan = pgx.RowTo[T]
	}
	result, err := pgx.CollectRows(rows, scan)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return result
}

// connection returns a cached connection, made anew if the server has gone since.
func (d *Database) connection(ctx context.Context, t testing.TB, cached **pgx.Conn) *pgx.Conn {
	t.Helper()
	if *cached != nil && (*cached).Ping(ctx) == nil {
		return *cached
	}
	conn, err := connect(ctx, d.URL(Superuser))
	if err != nil {
		t.Fatalf("connecting to the database: %v", err)
	}
	*cached = conn
	return conn
}

// close ends the cached connections.
func (d *Database) close() {
	ctx, cancel := context.WithTimeout(context.Background(), statementLimit)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, conn := range []*pgx.Conn{d.conn, d.super} {
		if conn != nil {
			_ = conn.Close(ctx)
		}
	}
	d.conn, d.super = nil, nil
}

// connect opens a connection that keeps no prepared statement: tests change tables under it.
func connect(ctx context.Context, address string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	return pgx.ConnectConfig(ctx, config)
}
