package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
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
	// Held are the rows that the answers behind the records were made from: the round trip also tells which of them are no
	// longer what they were. Only an AuditConn looks at them.
	Held []Held
}

// Tuple is one state of a row: where it lies, and the transaction that wrote it. Every write by a statement makes another tuple,
// in another place (PostgreSQL documentation, 5.5 System Columns); a place is used again by a later transaction. A
// transaction id comes back after four billion others: who holds a row for days must read it again.
type Tuple struct {
	Block  uint32
	Offset uint16
	Xmin   uint32
}

// Held is one version of a secret as it was read. An id and the transaction that wrote the row tell one state of it for good;
// the place only says where to look.
type Held struct {
	SecretID   uuid.UUID
	Secret     Tuple // of the secret's row
	VersionUID uuid.UUID
	Version    Tuple // of the version's row
	// Valid is how many valid versions the secret must have, for an answer that speaks of all of them; 0 doesn't ask.
	Valid int32
}

// Appended is what the round trip that appended saw.
type Appended struct {
	DatabaseTime time.Time // the clock when the statement ran
	Epoch        int64     // of the grants
	// Stale are the indexes into Held, ascending, of what is not as it was, or has expired. It is valid until the next append
	// on the same connection.
	Stale []int
}

// The compare, the insert, the validation and the epoch are one statement, of one snapshot: when the compare finds another
// head, the insert has nothing to join with and nothing is written. The arrays are unnested in a select list, in step with the
// numbers, and not in FROM, where each would be stored on its way.
const (
	appendHead = `
WITH head AS (
    UPDATE vault.audit_streams
    SET head_seq = $2 + cardinality($7::timestamptz[]), head_mac = $4, head_at = $5
    WHERE stream_id = $1 AND head_seq = $2 AND head_mac = $3 AND state = 'open'
    RETURNING stream_id
), added AS (
    INSERT INTO vault.audit_log (stream_id, seq, at, actor, client_ip, action, secret_name, version, outcome, request_id,
                                 trace_id, detail, mac, key_id)
    SELECT head.stream_id, $2 + r.n, r.at, r.actor, r.client_ip, r.action, r.secret_name, r.version, r.outcome,
           r.request_id, r.trace_id, r.detail, r.mac, $6
    FROM head, (SELECT generate_series(1, cardinality($7::timestamptz[])) AS n, unnest($7::timestamptz[]) AS at,
                       unnest($8::text[]) AS actor, unnest($9::inet[]) AS client_ip, unnest($10::text[]) AS action,
                       unnest($11::text[]) AS secret_name, unnest($12::bigint[]) AS version, unnest($13::text[]) AS outcome,
                       unnest($14::text[]) AS request_id, unnest($15::text[]) AS trace_id, unnest($16::bytea[]) AS detail,
                       unnest($17::bytea[]) AS mac) AS r
    RETURNING 1
)
SELECT (SELECT count(*) FROM added), clock_timestamp(), (SELECT epoch FROM vault.authz_state)`

	appendSQL = appendHead

	// What lies where the held rows were, if it hasn't expired. The tuples are fetched from there in one go, however large the
	// tables are; one that was written to since isn't there any more for this statement.
	heldColumns = `, s.places, s.xmins, s.ids, v.places, v.xmins, v.ids`
	heldFrom    = `
FROM (SELECT array_agg(ctid) AS places, array_agg(xmin) AS xmins, array_agg(id) AS ids
      FROM ONLY vault.secrets WHERE ctid = ANY($18::tid[])) AS s,
     (SELECT array_agg(ctid) AS places, array_agg(xmin) AS xmins,
             array_agg(coalesce(version_uid, '00000000-0000-0000-0000-000000000000')) AS ids
      FROM ONLY vault.secret_versions
      WHERE ctid = ANY($19::tid[]) AND (expires_at IS NULL OR expires_at > clock_timestamp())) AS v`

	// How many versions of some secrets are valid.
	validColumn = `, ARRAY(
    SELECT (SELECT count(*) FROM ONLY vault.secret_versions AS o WHERE o.secret_id = c.id AND (o.state = 'current'
            OR (o.state = 'superseded' AND o.expires_at > clock_timestamp() AND isfinite(o.expires_at))))
    FROM unnest($20::uuid[]) WITH ORDINALITY AS c (id, n) ORDER BY c.n)`

	appendValidatingSQL = appendHead + heldColumns + heldFrom
	appendCountingSQL   = appendHead + heldColumns + validColumn + heldFrom
)

// statement gives the statement that this append takes.
func (a Append) statement() (name, sql string) {
	switch {
	case len(a.Held) == 0:
		return "sealkeep_append", appendSQL
	case slices.ContainsFunc(a.Held, func(h Held) bool { return h.Valid > 0 }):
		return "sealkeep_append_counting", appendCountingSQL
	default:
		return "sealkeep_append_validating", appendValidatingSQL
	}
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

// send makes one round trip and reads up to ReadyForQuery. Whatever its error, what the statement did is for the caller to
// judge; prepared tells whether it was sent at all.
func (a Append) send(ctx context.Context, conn *pgx.Conn, w *wire) (result Appended, count int64, prepared bool, err error) {
	// The driver remembers what it has prepared on a connection.
	name, sql := a.statement()
	statement, err := conn.Prepare(ctx, name, sql)
	if err != nil {
		return Appended{}, 0, false, fmt.Errorf("preparing an append: %w", err)
	}
	w.append(&a)
	reader := conn.PgConn().ExecStatement(ctx, statement, w.params(), w.binary[:1], w.binary[:1])
	var readErr error
	if reader.NextRow() {
		count, readErr = w.result(reader.Values(), a.Held, &result)
	}
	if _, err := reader.Close(); err != nil {
		return Appended{}, 0, true, err
	}
	return result, count, true, readErr
}

// Append appends inside this transaction: the records take effect with it, or not at all. After an error the transaction
// must be rolled back. ErrGrantsMoved means that the transaction was allowed under grants that are no longer the current ones.
func (t *Tx) Append(ctx context.Context, a Append) (Appended, error) {
	a.Held = nil
	result, count, _, err := a.send(ctx, t.conn.Conn(), &wire{})
	if err == nil {
		err = a.check(count)
	}
	if err == nil && t.epoch != 0 && result.Epoch != t.epoch {
		err = ErrGrantsMoved
	}
	if err != nil {
		return Appended{}, fmt.Errorf("appending to the audit trail: %w", err)
	}
	return result, nil
}

// AuditConn is a connection of its own for the shared audit rounds, so that they never wait for the pool. It belongs to one
// goroutine.
type AuditConn struct {
	*dedicated
	wire wire
}

// AuditConn connects. The caller must Close it.
func (d *DB) AuditConn(ctx context.Context) (*AuditConn, error) {
	c, err := d.dedicate(ctx)
	if err != nil {
		return nil, err
	}
	return &AuditConn{dedicated: c}, nil
}

// Append is one round trip and one transaction. The outcome is Committed only after ReadyForQuery came without an error:
// the server sends CommandComplete before it commits, so an inner completion proves nothing. An Unknown outcome closes the
// connection. a is not kept.
func (c *AuditConn) Append(ctx context.Context, a Append) (Appended, Outcome, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.db.silence)
	defer cancel()

	if c.conn.IsClosed() {
		return Appended{}, RolledBack, errLost
	}
	result, count, sent, err := a.send(ctx, c.conn, &c.wire)
	if !sent {
		return Appended{}, RolledBack, err
	}
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
