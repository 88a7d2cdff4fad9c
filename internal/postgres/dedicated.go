package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// dedicated is a connection outside the pool, for the few statements that every read runs. It belongs to one goroutine.
type dedicated struct {
	db   *DB
	conn *pgx.Conn
}

// keyed makes a session look rows up by their keys and keep its plans. The statements of dedicated connections name every
// row by a key, and how many rows the tables have when a plan is made says nothing of how many they will have: a plan for an
// empty table would read a full one from end to end.
var keyed = map[string]string{
	"enable_seqscan":   "off",
	"enable_hashjoin":  "off",
	"enable_mergejoin": "off",
	"plan_cache_mode":  "force_generic_plan",
}

func (d *DB) dedicate(ctx context.Context) (*dedicated, error) {
	session := d.conn.Copy()
	for name, value := range keyed {
		session.RuntimeParams[name] = value
	}
	withoutCancelRequests(session)
	conn, err := pgx.ConnectConfig(ctx, session)
	if err != nil {
		return nil, fmt.Errorf("no connection to the database: %w", err)
	}
	return &dedicated{db: d, conn: conn}, nil
}

// Alive makes one empty round trip. After a false nothing is in doubt: nothing was under way.
func (c *dedicated) Alive(ctx context.Context) bool {
	return !c.conn.IsClosed() && c.conn.PgConn().Ping(ctx) == nil
}

// IsClosed tells whether the connection was lost, as far as that is known here.
func (c *dedicated) IsClosed() bool { return c.conn.IsClosed() }

// ServerIdentity asks which server, on which timeline, this connection reached, and what time it is there.
func (c *dedicated) ServerIdentity(ctx context.Context) (db.ServerIdentityRow, error) {
	return db.New(c.conn).ServerIdentity(ctx)
}

// Close ends the connection.
func (c *dedicated) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = c.conn.Close(ctx)
}
