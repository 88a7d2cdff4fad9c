package audit

import (
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// head is where a stream stands: the last record's number and mac, or zero and the opening's mac.
type head struct {
	seq int64
	mac [32]byte
	at  time.Time // of that record; never goes back within a stream
}

// chainer gives records their times and macs, one behind the other. Its buffers are reused: what it gave is valid until it
// begins again.
type chainer struct {
	rows    []postgres.Record
	bounded []bounded
	message []byte

	// Of the chain under way.
	key             *integrity.StreamKey
	label           string
	streamID, keyID uuid.UUID
	head            head
	at              time.Time
}

// bounded is a record's text as it is written, bounded and escaped, and its mac. Rows point into it.
type bounded struct {
	Record
	mac [32]byte
}

// begin starts behind h. at is when the records are said to have come; they are never older than h.
func (c *chainer) begin(key *integrity.StreamKey, label string, streamID, keyID uuid.UUID, h head, at time.Time) {
	if at.Before(h.at) {
		at = h.at
	}
	c.forget()
	c.key, c.label, c.streamID, c.keyID, c.head, c.at = key, label, streamID, keyID, h, at
}

// forget lets go of the records. Room for many isn't kept.
func (c *chainer) forget() {
	const kept = 512
	if cap(c.rows) > kept {
		c.rows, c.bounded = nil, nil
	}
	clear(c.rows)
	clear(c.bounded)
	c.rows, c.bounded = c.rows[:0], c.bounded[:0]
}

// add chains one more record, which is neither kept nor changed, but for its detail.
func (c *chainer) add(r *Record) {
	// When this slice moves, the rows before keep pointing into the old one, which nobody changes.
	c.bounded = append(c.bounded, bounded{Record: *r})
	b := &c.bounded[len(c.bounded)-1]
	b.bound()
	c.rows = append(c.rows, b.row(c.at))
	row := &c.rows[len(c.rows)-1]
	c.message = recordMessage(c.message[:0], c.label, c.streamID, c.head.seq+1, c.head.mac[:], c.keyID, row)
	c.head = head{seq: c.head.seq + 1, mac: c.key.MAC(c.message), at: c.at}
	b.mac = c.head.mac
	row.MAC = b.mac[:]
}

// bound bounds and escapes the text, so that no text of a client's can make a record that the database refuses.
func (b *bounded) bound() {
	b.Actor = printable(b.Actor, 256)
	b.Action = printable(b.Action, 64)
	b.SecretName = printable(b.SecretName, 1024)
	b.Outcome = printable(b.Outcome, 64)
	b.RequestID = printable(b.RequestID, 128)
	b.TraceID = printable(b.TraceID, 64)
	if b.ClientIP.IsValid() {
		b.ClientIP = b.ClientIP.Unmap().WithZone("")
	}
}

func (b *bounded) row(at time.Time) postgres.Record {
	row := postgres.Record{
		At: at, Actor: b.Actor, Action: b.Action, Outcome: b.Outcome, RequestID: b.RequestID, Detail: b.Detail,
	}
	if b.ClientIP.IsValid() {
		row.ClientIP = &b.ClientIP
	}
	if b.SecretName != "" {
		row.SecretName = &b.SecretName
	}
	if b.Version != 0 {
		row.Version = &b.Version
	}
	if b.TraceID != "" {
		row.TraceID = &b.TraceID
	}
	return row
}

// chain chains records behind h, and returns their rows and the head behind them.
func chain(key *integrity.StreamKey, label string, streamID, keyID uuid.UUID, h head, at time.Time, records []Record) ([]postgres.Record, head) {
	var c chainer
	c.begin(key, label, streamID, keyID, h, at)
	for i := range records {
		c.add(&records[i])
	}
	return c.rows, c.head
}
