package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// Record is one row of vault.audit_log, as it was chained. Times are in microseconds.
type Record struct {
	At         time.Time
	Actor      string
	ClientIP   *netip.Addr
	Action     string
	SecretName *string
	Version    *int64
	Outcome    string
	RequestID  string
	TraceID    *string
	Detail     []byte
	MAC        []byte
}

// Append asks to move a stream's head from (OldSeq, OldMAC) over Records, which take the next sequence numbers.
type Append struct {
	StreamID uuid.UUID
	KeyID    uuid.UUID
	OldSeq   int64
	OldMAC   []byte
	Records  []Record // at least one; the last one's MAC becomes the head
}

// Appended is what the round trip that appended saw.
type Appended struct {
	DatabaseTime time.Time // the clock when the statement ran
	Epoch        int64     // of the grants
}

// The compare, the insert and the epoch are one statement: when the compare finds another head, the insert has nothing to
// join with and nothing is written. unnest keeps the records' order, WITH ORDINALITY numbers them.
const appendSQL = `
WITH head AS (
    UPDATE vault.audit_streams
    SET head_seq = $2 + cardinality($5::timestamptz[]), head_mac = $4, head_at = $16
    WHERE stream_id = $1 AND head_seq = $2 AND head_mac = $3 AND state = 'open'
    RETURNING stream_id
), added AS (
    INSERT INTO vault.audit_log (stream_id, seq, at, actor, client_ip, action, secret_name, version, outcome, request_id,
                                 trace_id, detail, mac, key_id)
    SELECT head.stream_id, $2 + r.n, r.at, r.actor, r.client_ip, r.action, r.secret_name, r.version, r.outcome,
           r.request_id, r.trace_id, r.detail, r.mac, $17
    FROM head, unnest($5::timestamptz[], $6::text[], $7::inet[], $8::text[], $9::text[], $10::bigint[], $11::text[],
                      $12::text[], $13::text[], $14::bytea[], $15::bytea[])
        WITH ORDINALITY AS r (at, actor, client_ip, action, secret_name, version, outcome, request_id, trace_id, detail, mac, n)
    RETURNING 1
)
SELECT (SELECT count(*) FROM added), clock_timestamp(), (SELECT epoch FROM vault.authz_state)`

func (a Append) arguments() []any {
	n := len(a.Records)
	var (
		at       = make([]time.Time, n)
		actor    = make([]string, n)
		clientIP = make([]*netip.Addr, n)
		action   = make([]string, n)
		name     = make([]*string, n)
		version  = make([]*int64, n)
		outcome  = make([]string, n)
		request  = make([]string, n)
		trace    = make([]*string, n)
		detail   = make([][]byte, n)
		mac      = make([][]byte, n)
	)
	for i, r := range a.Records {
		at[i], actor[i], clientIP[i], action[i], name[i], version[i] = r.At, r.Actor, r.ClientIP, r.Action, r.SecretName, r.Version
		outcome[i], request[i], trace[i], detail[i], mac[i] = r.Outcome, r.RequestID, r.TraceID, r.Detail, r.MAC
	}
	return []any{
		a.StreamID, a.OldSeq, a.OldMAC, mac[n-1],
		at, actor, clientIP, action, name, version, outcome, request, trace, detail, mac, at[n-1], a.KeyID,
	}
}

func (a Append) queue(batch *pgx.Batch, result *Appended, count *int64) {
	batch.Queue(appendSQL, a.arguments()...).QueryRow(func(row pgx.Row) error {
		return row.Scan(count, &result.DatabaseTime, &result.Epoch)
	})
}

func (a Append) check(count int64) error {
	switch count {
	case int64(len(a.Records)):
		return nil
	case 0:
		return ErrStreamMoved
	default:
		return fmt.Errorf("%d audit records were inserted in place of %d", count, len(a.Records))
	}
}

// Append appends inside this transaction: the records take effect with it, or not at all. After an error the transaction
// must be rolled back.
func (t *Tx) Append(ctx context.Context, a Append) (Appended, error) {
	var result Appended
	var count int64
	batch := &pgx.Batch{}
	a.queue(batch, &result, &count)
	if err := t.tx.SendBatch(ctx, batch).Close(); err != nil {
		return Appended{}, fmt.Errorf("appending to the audit trail: %w", err)
	}
	return result, a.check(count)
}

// AuditConn is a connection of its own for the shared audit rounds, so that they never wait for the pool. It belongs to one
// goroutine.
type AuditConn struct {
	db   *DB
	conn *pgx.Conn
}

// AuditConn connects. The caller must Close it.
func (d *DB) AuditConn(ctx context.Context) (*AuditConn, error) {
	session := d.conn.Copy()
	withoutCancelRequests(session)
	conn, err := pgx.ConnectConfig(ctx, session)
	if err != nil {
		return nil, fmt.Errorf("no connection to the database: %w", err)
	}
	return &AuditConn{db: d, conn: conn}, nil
}

// Append is one round trip and one transaction. The outcome is Committed only after ReadyForQuery came without an error:
// with a pipelined statement the server sends CommandComplete before it commits, so an inner completion proves nothing.
// An Unknown outcome closes the connection.
func (c *AuditConn) Append(ctx context.Context, a Append) (Appended, Outcome, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.db.silence)
	defer cancel()

	if c.conn.IsClosed() {
		return Appended{}, RolledBack, errLost
	}
	var result Appended
	var count int64
	batch := &pgx.Batch{}
	a.queue(batch, &result, &count)
	err := c.conn.SendBatch(ctx, batch).Close()
	switch outcome := judge(c.conn.PgConn(), err); outcome {
	case Committed:
		if err := a.check(count); err != nil {
			if errors.Is(err, ErrStreamMoved) {
				return Appended{}, RolledBack, err
			}
			c.Close(ctx)
			return Appended{}, Unknown, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		return result, Committed, nil
	case RolledBack:
		return Appended{}, RolledBack, fmt.Errorf("appending to the audit trail: %w", err)
	default:
		c.Close(ctx)
		if err == nil {
			err = errCutWait
		}
		return Appended{}, Unknown, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
}

// Alive makes one empty round trip. After a false nothing is in doubt: no append was under way.
func (c *AuditConn) Alive(ctx context.Context) bool {
	return !c.conn.IsClosed() && c.conn.PgConn().Ping(ctx) == nil
}

// ServerIdentity asks which server, on which timeline, this connection reached, and what time it is there.
func (c *AuditConn) ServerIdentity(ctx context.Context) (db.ServerIdentityRow, error) {
	return db.New(c.conn).ServerIdentity(ctx)
}

// Close ends the connection.
func (c *AuditConn) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = c.conn.Close(ctx)
}
