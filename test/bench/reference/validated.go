package reference

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// serveValidated keeps sealed rows in memory, opens from there, and validates them in the round trip that commits the
// records of what was opened.
func serveValidated(ctx context.Context, router *gin.Engine, r *reader, url string) error {
	conn, err := dedicated(ctx, url)
	if err != nil {
		return err
	}
	// The statement's plan doesn't depend on its arguments, and planning takes as long as running.
	if _, err := conn.Exec(ctx, "SET plan_cache_mode = force_generic_plan"); err != nil {
		return err
	}
	s := &validated{reader: r, rows: map[string]*sealedRow{}, rounds: newCombiner[held]()}
	w := &roundWriter{conn: conn, mac: hmac.New(sha256.New, []byte("a key of the chain")), head: make([]byte, sha256.Size)}
	if err := w.loadHead(ctx); err != nil {
		return err
	}
	go func() { // it lives as long as the process does
		s.rounds.run(ctx, w.round, w.verdict)
		_ = conn.Close(context.WithoutCancel(ctx))
	}()
	router.GET("/v1/secrets/*name", s.read)
	return nil
}

type validated struct {
	*reader
	mu     sync.RWMutex
	rows   map[string]*sealedRow
	rounds *combiner[held]
}

// held is an access whose answer is held back until its row is known to be the current one and its record committed.
type held struct {
	*access
	row *sealedRow
}

var errChanged = errors.New("the row isn't the current one any more")

func (s *validated) read(g *gin.Context) {
	name := secretName(g)
	row, err := s.row(g.Request.Context(), name)
	if err != nil {
		fail(g, err)
		return
	}
	value, err := s.open.value(name, row)
	if err != nil {
		fail(g, err)
		return
	}
	if err := s.rounds.submit(held{access: accessBy(g, name, row), row: row}); err != nil {
		s.mu.Lock()
		delete(s.rows, name)
		s.mu.Unlock()
		fail(g, err)
		return
	}
	answer(g, http.StatusOK, appendSecret(make([]byte, 0, 512), row, name, value))
}

const selectHeldSQL = `
SELECT s.kind, s.format, s.created_at, v.version, v.wrapped_dek, v.nonce, v.ciphertext, v.version_uid, s.xmin, v.xmin
FROM vault.secrets s JOIN vault.secret_versions v ON v.secret_id = s.id AND v.version = s.current_version
WHERE s.name = $1`

func (s *validated) row(ctx context.Context, name string) (*sealedRow, error) {
	s.mu.RLock()
	row := s.rows[name]
	s.mu.RUnlock()
	if row != nil {
		return row, nil
	}
	row = &sealedRow{}
	err := s.pool.QueryRow(ctx, selectHeldSQL, name).Scan(&row.Kind, &row.Format, &row.CreatedAt, &row.Version,
		&row.WrappedDEK, &row.Nonce, &row.Ciphertext, &row.versionUID, &row.secretXmin, &row.versionXmin)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.rows[name] = row
	s.mu.Unlock()
	return row, nil
}

// One statement compares and moves the stream's head, inserts the records, reads the clock and the epoch, and names the
// records whose rows are no longer what they were opened from.
const roundSQL = `
WITH head AS (
    UPDATE vault.audit_streams
    SET head_seq = $2 + cardinality($5::text[]), head_mac = $4, head_at = $11
    WHERE stream_id = $1 AND head_seq = $2 AND head_mac = $3 AND state = 'open'
    RETURNING stream_id
), added AS (
    INSERT INTO vault.audit_log (stream_id, seq, at, actor, client_ip, action, secret_name, version, outcome, request_id, mac, key_id)
    SELECT head.stream_id, $2 + r.n, $11, r.actor, r.client_ip, 'read', r.name, r.version, 'ok', r.request_id, r.mac, $12
    FROM head, unnest($5::text[], $6::inet[], $7::text[], $8::bigint[], $9::text[], $10::bytea[])
        WITH ORDINALITY AS r (actor, client_ip, name, version, request_id, mac, n)
    RETURNING 1
)
SELECT (SELECT count(*) FROM added), clock_timestamp(), (SELECT epoch FROM vault.authz_state), ARRAY(
    SELECT r.n::integer FROM unnest($7::text[], $13::uuid[], $14::xid[], $15::xid[]) WITH ORDINALITY AS r (name, uid, s, v, n)
    WHERE (SELECT s.xmin = r.s AND v.xmin = r.v AND v.version_uid = r.uid AND (v.expires_at IS NULL OR v.expires_at > clock_timestamp())
           FROM vault.secrets s JOIN vault.secret_versions v ON v.secret_id = s.id AND v.version = s.current_version
           WHERE s.name = r.name) IS NOT TRUE)`

// roundWriter is the one writer of the chain. Its columns are used again by every round; FlatArray spares pgx reflection.
type roundWriter struct {
	conn  *pgx.Conn
	mac   hash.Hash
	seq   int64
	head  []byte
	at    time.Time // the database's, from the round before
	epoch int64
	buf   []byte

	actor       []string
	clientIP    pgtype.FlatArray[netip.Addr]
	name        []string
	version     []int64
	requestID   []string
	macs        pgtype.FlatArray[[]byte]
	uid         pgtype.FlatArray[[16]byte] // uuid.UUID would be written as text first
	secretXmin  []uint32
	versionXmin []uint32

	changed []int32
}

func (w *roundWriter) loadHead(ctx context.Context) error {
	return w.conn.QueryRow(ctx, "SELECT head_seq, head_mac, clock_timestamp() FROM vault.audit_streams WHERE stream_id = $1", laneID(0)).
		Scan(&w.seq, &w.head, &w.at)
}

func (w *roundWriter) round(ctx context.Context, round []*ticket[held]) error {
	w.reset()
	head := w.head
	for _, t := range round {
		h := t.item
		head = w.chain(head, h.access)
		w.macs = append(w.macs, head)
		w.actor, w.clientIP, w.name = append(w.actor, h.actor), append(w.clientIP, h.clientIP), append(w.name, h.name)
		w.version, w.requestID = append(w.version, h.version), append(w.requestID, h.requestID)
		w.uid, w.secretXmin, w.versionXmin = append(w.uid, h.row.versionUID), append(w.secretXmin, h.row.secretXmin), append(w.versionXmin, h.row.versionXmin)
	}
	var added int64
	err := w.conn.QueryRow(ctx, roundSQL, laneID(0), w.seq, w.head, head, w.actor, w.clientIP, w.name, w.version, w.requestID, w.macs,
		w.at, laneID(0), w.uid, w.secretXmin, w.versionXmin).Scan(&added, &w.at, &w.epoch, &w.changed)
	if err != nil {
		return err
	}
	if added != int64(len(round)) {
		return fmt.Errorf("%d records of %d were added: the stream's head is elsewhere", added, len(round))
	}
	w.seq, w.head = w.seq+added, head
	return nil
}

// verdict judges one record of the last round.
func (w *roundWriter) verdict(i int) error {
	for _, n := range w.changed {
		if int(n) == i+1 {
			return errChanged
		}
	}
	return nil
}

func (w *roundWriter) reset() {
	w.actor, w.clientIP, w.name, w.version, w.requestID = w.actor[:0], w.clientIP[:0], w.name[:0], w.version[:0], w.requestID[:0]
	w.macs, w.uid, w.secretXmin, w.versionXmin = w.macs[:0], w.uid[:0], w.secretXmin[:0], w.versionXmin[:0]
}

// chain is the MAC of a record over the one before.
func (w *roundWriter) chain(before []byte, a *access) []byte {
	b := append(w.buf[:0], before...)
	for _, text := range []string{a.actor, a.action, a.name, a.outcome, a.requestID} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	b = a.clientIP.AppendTo(b)
	b = binary.BigEndian.AppendUint64(b, uint64(a.version))
	w.buf = b
	w.mac.Reset()
	w.mac.Write(b)
	return w.mac.Sum(nil)
}
