// Package postgres speaks to PostgreSQL: connections, transactions, every SQL statement, and what a failure means.
//
// It carries opaque bytes only. It can't import the packages that hold plaintext or keys, so that a value can't reach the
// database by accident; the linter keeps that wall.
//
// Invariants:
//   - I8: every connection is to a writable primary; a standby is refused when connecting.
//   - I13: every session forces synchronous_commit = on; an answer of "committed" means that the server said so with
//     ReadyForQuery, and that no wait for a synchronous standby was cut short (see Outcome).
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// Config says how to reach the database.
type Config struct {
	// ConnString is a libpq URL or keyword string. It may hold a password: it is never logged. Session settings in it, and
	// in PGOPTIONS, are ignored.
	ConnString string
	// Process names this process in pg_stat_activity, 1 to 63 bytes.
	Process string
	// MaxConns bounds the pool, 1 to 1000; 0 means 16. Dedicated connections come on top.
	MaxConns int
	// ConnectTimeout bounds one attempt to connect to one host; 0 means 2 s.
	ConnectTimeout time.Duration
	// SilenceLimit is how long a commit or an append may stay without any answer before its connection is given up as
	// dead, its outcome unknown; 0 means 10 s. It is longer than any request waits, because a commit in flight is never
	// cancelled for a request's sake; nor does giving up cancel it.
	SilenceLimit time.Duration
}

// DB is a pool of connections to the primary. Queries run by it outside a transaction see the latest committed state.
type DB struct {
	*db.Queries

	pool    *pgxpool.Pool
	conn    *pgx.ConnConfig
	silence time.Duration
}

// Open makes the pool; it doesn't connect yet. The caller must Close it.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 16
	}
	if cfg.SilenceLimit == 0 {
		cfg.SilenceLimit = 10 * time.Second
	}
	poolConfig, err := pgxpool.ParseConfig(cfg.ConnString)
	if err != nil {
		// pgx masks passwords in its message, but not every part of a malformed URL: say nothing of it.
		return nil, errors.New("the database's connection string can't be parsed: see VAULT_DATABASE_URL and VAULT_PG_*")
	}
	configureSession(poolConfig.ConnConfig, cfg)
	poolConfig.BeforeConnect = func(_ context.Context, session *pgx.ConnConfig) error {
		withoutCancelRequests(session)
		return nil
	}
	poolConfig.PrepareConn = isUnmarked
	poolConfig.MaxConns = int32(min(max(cfg.MaxConns, 1), 1000))
	poolConfig.MaxConnLifetime = time.Hour
	poolConfig.MaxConnLifetimeJitter = 10 * time.Minute
	poolConfig.MaxConnIdleTime = 10 * time.Minute
	poolConfig.HealthCheckPeriod = 15 * time.Second

	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return nil, fmt.Errorf("making the pool: %w", err)
	}
	return &DB{Queries: db.New(pool), pool: pool, conn: poolConfig.ConnConfig, silence: cfg.SilenceLimit}, nil
}

// configureSession forces the session settings that durability and safety rest on. They are sent when the session starts,
// so that neither the role's nor the database's own defaults can weaken them. Nothing else is sent: PostgreSQL knows a
// setting by its name in any case, and by "options", so that a connection string, or PGOPTIONS, could say the opposite after us.
func configureSession(c *pgx.ConnConfig, cfg Config) {
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 2 * time.Second
	}
	c.ConnectTimeout = cfg.ConnectTimeout
	c.RuntimeParams = map[string]string{
		"application_name":                    cfg.Process,
		"synchronous_commit":                  "on",
		"search_path":                         "pg_catalog",
		"timezone":                            "GMT", // the one zone that PostgreSQL knows without any tzdata
		"client_encoding":                     "UTF8",
		"default_transaction_isolation":       "read committed",
		"lock_timeout":                        "2s",
		"idle_in_transaction_session_timeout": "15s",
		"statement_timeout":                   "0",   // deadlines are the callers' own
		"jit":                                 "off", // no statement of ours runs long enough to be worth compiling
		// A cut wait is told by a warning alone: a session that gets none would take it for a commit.
		"client_min_messages": "notice",
	}

	c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	c.OnNotice = noteCutWait
}

// Close ends all connections of the pool, waiting for those in use.
func (d *DB) Close() { d.pool.Close() }

// Ping asks the primary for a sign of life.
func (d *DB) Ping(ctx context.Context) error { return d.pool.Ping(ctx) }

// PoolStats tells how many connections exist, are in use, and may exist.
func (d *DB) PoolStats() (total, inUse, limit int32) {
	s := d.pool.Stat()
	return s.TotalConns(), s.AcquiredConns(), s.MaxConns()
}
