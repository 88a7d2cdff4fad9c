package postgres

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Pool is the pool, for tests that look into its sessions.
func (d *DB) Pool() *pgxpool.Pool { return d.pool }

// Raw is the transaction, for statements that only tests make.
func (t *Tx) Raw() pgx.Tx { return t.tx }

// Raw is the connection, for statements that only tests make.
func (c *dedicated) Raw() *pgx.Conn { return c.conn }

// GuardList is the list of guards as it is built in.
var GuardList = guardList

// AnyLeaf is the name in it that stands for every daily partition's.
const AnyLeaf = anyLeaf
