package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// Stream kinds: what a stream's records are about.
const (
	kindRead    = "read"
	kindChange  = "change"
	kindDenial  = "denial"
	kindOffline = "offline"
)

// lane is a stream that this process writes. Exactly one goroutine holds it at a time, from before it chains records until the
// outcome of their transaction is known; only then does the head in memory move.
type lane struct {
	id    uuid.UUID
	kind  string
	keyID uuid.UUID
	key   *integrity.StreamKey
	head  head
	// chain makes what is appended next.
	chain chainer
	// epoch is that of the grants as the append in hand saw it, which counts once it is committed.
	epoch int64
	// The server that the stream was opened on. After a failover it is a stream of the past.
	systemID string
	timeline int64
}

// maxAhead is how far a stream's last record may be ahead of the database's clock. Records behind it repeat its time, and the
// database refuses what is 5 minutes ahead: a stream that got there when the clock was set back could never go on.
const maxAhead = time.Minute

var (
	errServerChanged = errors.New("the server is another one, or on another timeline, than the stream was opened on")
	errClockSetBack  = errors.New("the database's clock was set back behind the stream's last record")
)

// predecessor names the stream whose place a new one takes.
type predecessor struct {
	id   uuid.UUID
	head head
}

// newLane makes the row of a new stream and the lane that may write to it once the row is committed.
func newLane(keys *integrity.Keyring, vaultID uuid.UUID, process, kind string, server db.ServerIdentityRow, before *predecessor, random io.Reader) (*lane, db.OpenStreamParams, error) {
	keyID, ok := keys.ActiveKeyID(integrity.PurposeAudit)
	if !ok {
		return nil, db.OpenStreamParams{}, errors.New("the keyring has no active key for the audit trail")
	}
	id, err := uuid.NewRandomFromReader(random)
	if err != nil {
		return nil, db.OpenStreamParams{}, fault.Wrap(fault.Internal, fmt.Errorf("making a stream id: %w", err), "")
	}
	key, err := keys.StreamKey(keyID, id)
	if err != nil {
		return nil, db.OpenStreamParams{}, fmt.Errorf("deriving the stream's key: %w", err)
	}
	o := opening{
		streamID: id, vaultID: vaultID, keyID: keyID, process: process, kind: kind,
		openedAt: server.ReadAt, systemID: server.SystemID, timeline: server.Timeline,
	}
	if before != nil {
		o.predecessor, o.predecessorSeq, o.predecessorMAC = &before.id, &before.head.seq, before.head.mac[:]
	}
	l := &lane{id: id, kind: kind, keyID: keyID, key: key, systemID: o.systemID, timeline: o.timeline}
	l.head = head{mac: key.MAC(o.message(nil)), at: o.openedAt}
	return l, db.OpenStreamParams{
		StreamID: id, Process: process, Kind: kind, OpenedAt: o.openedAt, HeadMac: append([]byte(nil), l.head.mac[:]...),
		SystemID: o.systemID, Timeline: o.timeline,
		Predecessor: o.predecessor, PredecessorSeq: o.predecessorSeq, PredecessorMac: o.predecessorMAC, KeyID: keyID,
	}, nil
}

func (l *lane) on(server db.ServerIdentityRow) bool {
	return l.systemID == server.SystemID && l.timeline == server.Timeline
}

// current tells whether new streams would still have the same root.
func (l *lane) current(keys *integrity.Keyring) bool {
	active, ok := keys.ActiveKeyID(integrity.PurposeAudit)
	return !ok || active == l.keyID
}

func (l *lane) ahead(clock *databaseClock) bool { return l.head.at.Sub(clock.read()) > maxAhead }

// append chains records behind the lane's head. The lane itself doesn't move: that is for whoever learns the outcome. What
// it gives is valid until the next append.
func (l *lane) append(clock *databaseClock, records []Record) (postgres.Append, head) {
	return l.appendAt(clock.read(), records)
}

func (l *lane) appendAt(at time.Time, records []Record) (postgres.Append, head) {
	l.begin(at)
	for i := range records {
		l.chain.add(&records[i])
	}
	return l.request()
}

// begin, chain.add for every record, and request are append in steps.
func (l *lane) begin(at time.Time) {
	l.chain.begin(l.key, canon.LabelAuditRecord, l.id, l.keyID, l.head, at)
}

func (l *lane) request() (postgres.Append, head) {
	return postgres.Append{
		StreamID: l.id, KeyID: l.keyID, OldSeq: l.head.seq, OldMAC: l.head.mac[:], Records: l.chain.rows,
	}, l.chain.head
}

func (l *lane) release() { l.key.Release() }

// closeIn appends the closing record behind h and closes the stream, in the caller's transaction, whose lock on the stream's
// row proves that h is the head.
func closeIn(ctx context.Context, tx *postgres.Tx, key *integrity.StreamKey, row lockedStream, h head, r Record) error {
	at := row.ReadAt
	rows, next := chain(key, canon.LabelAuditClose, row.StreamID, row.KeyID, h, at, []Record{r})
	err := tx.InsertRecord(ctx, db.InsertRecordParams{
		StreamID: row.StreamID, Seq: next.seq, At: next.at, Actor: rows[0].Actor, ClientIP: rows[0].ClientIP,
		Action: rows[0].Action, SecretName: rows[0].SecretName, Version: rows[0].Version, Outcome: rows[0].Outcome,
		RequestID: rows[0].RequestID, TraceID: rows[0].TraceID, Detail: rows[0].Detail, Mac: rows[0].MAC, KeyID: row.KeyID,
	})
	if err != nil {
		return fmt.Errorf("writing the closing record: %w", err)
	}
	moved, err := tx.CloseStream(ctx, db.CloseStreamParams{
		StreamID: row.StreamID, HeadSeq: next.seq, HeadMac: next.mac[:], HeadAt: next.at, OldSeq: h.seq, OldMac: h.mac[:],
	})
	if err != nil {
		return fmt.Errorf("closing the stream: %w", err)
	}
	if moved != 1 {
		return postgres.ErrStreamMoved
	}
	return nil
}
