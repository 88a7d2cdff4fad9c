package audit

import (
	"context"
	"crypto/hmac"
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

const witnessPage = 500

// witness reads the heads of all open streams and of those closed since then, and gives those that verify: a process
// vouches for nothing that somebody else has put into the table. What doesn't verify is an alarm.
func (t *Trail) witness(ctx context.Context, since time.Time) ([]seenHead, error) {
	var heads []seenHead
	var after uuid.UUID
	for {
		page, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
		rows, err := t.db.Heads(page, db.HeadsParams{After: after, Since: &since, MaxRows: witnessPage})
		cancel()
		if err != nil {
			return nil, fmt.Errorf("reading the streams' heads: %w", err)
		}
		heads = append(heads, t.checkHeads(ctx, rows)...)
		if len(rows) < witnessPage {
			return heads, nil
		}
		after = rows[len(rows)-1].StreamID
	}
}

// checkHeads gives the heads among rows that verify, once each, and alarms about the others.
func (t *Trail) checkHeads(ctx context.Context, rows []db.HeadsRow) []seenHead {
	for i := range rows {
		if key, err := t.keys.StreamKey(rows[i].KeyID, rows[i].StreamID); err == nil {
			key.Release()
		} else if err := t.keys.Refresh(ctx); err != nil {
			t.log.WarnContext(ctx, "an audit stream names a key that isn't held, and the keyring could not be read again", "error", err)
			break
		} else {
			break // once is enough for all
		}
	}
	var heads []seenHead
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].StreamID == rows[0].StreamID {
			n++
		}
		genuine := false
		for i := range rows[:n] {
			genuine = genuine || t.isGenuine(&rows[i])
		}
		if genuine {
			heads = append(heads, seenHead{
				Stream: rows[0].StreamID.String(), Seq: rows[0].HeadSeq, MAC: hex.EncodeToString(rows[0].HeadMac),
			})
		} else {
			t.metrics.moved.Inc()
			t.log.ErrorContext(ctx, "an audit stream's head is not one that this vault wrote: verify the audit trail",
				"stream_id", rows[0].StreamID, "seq", rows[0].HeadSeq)
		}
		rows = rows[n:]
	}
	return heads
}

// isGenuine tells whether a stream's head is one that somebody with the keys put there: its opening's mac, or that of the
// record which it names behind the one before.
func (t *Trail) isGenuine(r *db.HeadsRow) bool {
	key, err := t.keys.StreamKey(r.KeyID, r.StreamID)
	if err != nil {
		return false
	}
	defer key.Release()
	previous := r.PreviousMac
	if r.HeadSeq <= 1 {
		mac := key.MAC(opening{
			streamID: r.StreamID, vaultID: t.vaultID, keyID: r.KeyID, process: r.Process, kind: r.Kind, openedAt: r.OpenedAt,
			systemID: r.SystemID, timeline: r.Timeline,
			predecessor: r.Predecessor, predecessorSeq: r.PredecessorSeq, predecessorMAC: r.PredecessorMac,
		}.message(nil))
		if r.HeadSeq == 0 {
			return hmac.Equal(mac[:], r.HeadMac)
		}
		previous = mac[:]
	}
	if r.At == nil || r.Actor == nil || r.Action == nil || r.Outcome == nil || r.RequestID == nil || !hmac.Equal(r.Mac, r.HeadMac) {
		return false
	}
	row := postgres.Record{
		At: *r.At, Actor: *r.Actor, Action: *r.Action, SecretName: r.SecretName, Version: r.Version, Outcome: *r.Outcome,
		RequestID: *r.RequestID, TraceID: r.TraceID, Detail: r.Detail,
	}
	if r.ClientIP != "" {
		address, err := netip.ParseAddr(r.ClientIP)
		if err != nil {
			return false
		}
		row.ClientIP = &address
	}
	_, closing, ok := proves(key, r.StreamID, r.KeyID, r.HeadSeq, previous, &row, r.Mac)
	return ok && closing == (r.State == "closed")
}
