package audit

import (
	"context"
	"crypto/hmac"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// stream walks one stream from its opening to its head. A record that doesn't verify is named, and the walk goes on behind it
// from the mac that the record bears: what follows was chained to that, so every further alteration shows by itself.
func (v *verifier) stream(ctx context.Context, s *db.StreamsRow) error {
	v.report.Streams++
	if s.State == "open" {
		v.report.Open++
	}
	key, err := v.keys.StreamKey(s.KeyID, s.StreamID)
	if err != nil {
		v.foreignStream(s.StreamID, "the stream names a key that the keyring doesn't have")
		return nil // said in the report
	}
	defer key.Release()

	w := &walk{verifier: v, stream: s, key: key, head: head{mac: v.opening(key, s), at: s.OpenedAt}}
	if s.HeadSeq == 0 && !hmac.Equal(w.head.mac[:], s.HeadMac) {
		v.foreignStream(s.StreamID, "the stream's opening doesn't match its mac")
		return nil
	}
	after := int64(math.MinInt64) // not 0: a number below 1 is found as well
	for {
		rows, err := v.q.Records(ctx, db.RecordsParams{StreamID: s.StreamID, AfterSeq: after, MaxRows: verifyBatch})
		if err != nil {
			return fmt.Errorf("reading stream %s: %w", s.StreamID, err)
		}
		whole := len(rows) < verifyBatch
		for first := true; len(rows) > 0; first = false {
			n := 1
			for n < len(rows) && rows[n].Seq == rows[0].Seq {
				n++
			}
			if n == len(rows) && !whole && !first {
				break // the next batch begins with this number, and may hold more under it
			}
			after = rows[0].Seq
			w.number(rows[:n])
			rows = rows[n:]
		}
		if v.with.Progress != nil {
			v.with.Progress(v.report.Records)
		}
		if whole {
			break
		}
	}
	w.end()
	return nil
}

func (v *verifier) opening(key *integrity.StreamKey, s *db.StreamsRow) [32]byte {
	return key.MAC(opening{
		streamID: s.StreamID, vaultID: v.vaultID, keyID: s.KeyID, process: s.Process, kind: s.Kind, openedAt: s.OpenedAt,
		systemID: s.SystemID, timeline: s.Timeline,
		predecessor: s.Predecessor, predecessorSeq: s.PredecessorSeq, predecessorMAC: s.PredecessorMac,
	}.message(nil))
}

// walk is where the verification of one stream stands.
type walk struct {
	*verifier
	stream *db.StreamsRow
	key    *integrity.StreamKey
	head   head
	closed bool // by a closing record that verified
}

// number takes all records that stand under one number: one that verifies, if there is one, and strangers.
func (w *walk) number(rows []db.RecordsRow) {
	id, seq := w.stream.StreamID, rows[0].Seq
	if seq <= w.head.seq {
		w.problem(id, seq, "there is a record under a number that no record has")
		return
	}
	if w.closed {
		w.problem(id, seq, "there is a record behind the stream's closing one")
		return
	}
	gap := seq != w.head.seq+1
	if gap && w.precedes(w.stream.OpenedAt) {
		w.drop(seq - 1)
		w.adopt(&rows[0])
		w.each(&rows[0], false)
		if len(rows) > 1 {
			w.problem(id, seq, "%d records stand under this number, of which at most one was written by this vault", len(rows))
		}
		return
	}
	if gap {
		w.problem(id, w.head.seq+1, "the record is missing; the next one is %d", seq)
	}
	genuine := -1
	why := ""
	for i := range rows {
		mac, closing, wrong := w.check(&rows[i])
		if wrong != "" {
			why = wrong
			continue
		}
		genuine = i
		w.head = head{seq: seq, mac: mac, at: rows[i].At}
		w.closed = closing
		w.report.Records++
		w.each(&rows[i], true)
		if rows[i].Action == ActionHeartbeat {
			w.hear(id, &rows[i])
		}
		break
	}
	switch {
	case genuine < 0 && gap:
		// Nothing vouches for what precedes it, so nothing can be said of it either way.
		w.adopt(&rows[0])
	case genuine < 0:
		w.problem(id, seq, "%s", why)
		w.adopt(&rows[0])
	}
	if len(rows) > 1 {
		w.problem(id, seq, "%d records stand under this number, of which at most one was written by this vault", len(rows))
	}
}

// precedes tells whether nothing of the stream was found yet and what is of that time went with its day.
func (w *walk) precedes(at time.Time) bool { return w.head.seq == 0 && at.Before(w.with.Since) }

// drop counts what is missing from the stream's beginning.
func (w *walk) drop(upTo int64) {
	w.dropped[w.stream.StreamID] = upTo
	w.report.Dropped += upTo
}

func (w *walk) each(r *db.RecordsRow, proven bool) {
	if w.with.Each != nil {
		w.with.Each(r, proven)
	}
}

// adopt goes on from a record that isn't proven.
func (w *walk) adopt(r *db.RecordsRow) {
	w.head.seq = r.Seq
	copy(w.head.mac[:], r.Mac)
	if r.At.After(w.head.at) {
		w.head.at = r.At
	}
}

// check holds one record against the head before it, and says what is wrong with it.
func (w *walk) check(r *db.RecordsRow) (mac [32]byte, closing bool, wrong string) {
	switch {
	case r.KeyID != w.stream.KeyID:
		return mac, false, "the record names another key than its stream"
	case r.At.Before(w.head.at):
		return mac, false, "the record is older than the one before it"
	}
	row := postgres.Record{
		At: r.At, Actor: r.Actor, Action: r.Action, SecretName: r.SecretName, Version: r.Version, Outcome: r.Outcome,
		RequestID: r.RequestID, TraceID: r.TraceID, Detail: r.Detail,
	}
	if r.ClientIP != "" {
		address, err := netip.ParseAddr(r.ClientIP)
		if err != nil || address.Is4In6() { // the mac doesn't tell a mapped address from its IPv4 form, which is what is written
			return mac, false, "the record's address is not one that is ever written"
		}
		row.ClientIP = &address
	}
	if mac, closing, ok := proves(w.key, w.stream.StreamID, w.stream.KeyID, r.Seq, w.head.mac[:], &row, r.Mac); ok {
		return mac, closing, ""
	}
	return mac, false, "the record doesn't match its mac: it, or the one before it, was altered, or put there by somebody else"
}

// proves tells whether want is the record's mac behind previous, as an ordinary record or as the closing one.
func proves(key *integrity.StreamKey, streamID, keyID uuid.UUID, seq int64, previous []byte, row *postgres.Record, want []byte) (mac [32]byte, closing, ok bool) {
	mac = key.MAC(recordMessage(nil, canon.LabelAuditRecord, streamID, seq, previous, keyID, row))
	if hmac.Equal(mac[:], want) {
		return mac, false, true
	}
	mac = key.MAC(recordMessage(nil, canon.LabelAuditClose, streamID, seq, previous, keyID, row))
	return mac, true, hmac.Equal(mac[:], want)
}

// end holds the stream's row against where the walk ended.
func (w *walk) end() {
	s, h := w.stream, w.head
	if s.HeadSeq > 0 && w.precedes(s.HeadAt) {
		w.drop(s.HeadSeq)
		return
	}
	state := "open"
	if w.closed {
		state = "closed"
	}
	switch {
	case h.seq != s.HeadSeq:
		w.problem(s.StreamID, h.seq+1, "the stream's head is at %d, but its records end at %d", s.HeadSeq, h.seq)
	case !hmac.Equal(h.mac[:], s.HeadMac):
		w.problem(s.StreamID, h.seq, "the stream's head doesn't match its last record")
	case !s.HeadAt.Equal(h.at):
		w.problem(s.StreamID, h.seq, "the stream's head has another time than its last record")
	case s.State != state:
		w.problem(s.StreamID, h.seq, "the stream's state is %q, but by its last record it is %s", s.State, state)
	case s.BearsClosing != w.closed, w.closed && !s.ClosedAt.Equal(h.at):
		w.problem(s.StreamID, h.seq, "the stream's row has another time of closing than its last record")
	}
}
