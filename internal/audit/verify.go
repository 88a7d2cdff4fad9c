package audit

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// Report is what verification found. No Problems means that every record is where it was written, unaltered, and that
// nothing that any heartbeat saw is missing.
type Report struct {
	Streams  int64
	Open     int64
	Records  int64
	Problems []Problem
	// Notes tell of what is no tampering, but worth knowing.
	Notes []string
}

// Problem names one record, or the stream itself when Seq is 0, and what is wrong with it.
type Problem struct {
	StreamID uuid.UUID
	Seq      int64
	What     string
}

// maxProblems bounds a report: one altered record is enough to know, a hundred show the extent.
const maxProblems = 100

const verifyBatch = 2000

// Verify walks every stream of the database on one snapshot. An error means that it could not check; what it could check
// and found wrong is in the report. progress, if not nil, is called now and then with the records done so far.
func Verify(ctx context.Context, database *postgres.DB, keys *integrity.Keyring, vaultID uuid.UUID, progress func(records int64)) (*Report, error) {
	v := &verifier{keys: keys, vaultID: vaultID, progress: progress, claims: map[uuid.UUID]claim{}, report: &Report{}}
	err := database.Snapshot(ctx, func(q *db.Queries) error {
		v.q = q
		return v.run(ctx)
	})
	if err != nil {
		return nil, err
	}
	return v.report, nil
}

type verifier struct {
	q        *db.Queries
	keys     *integrity.Keyring
	vaultID  uuid.UUID
	progress func(int64)
	report   *Report
	// claims holds, of each stream, the farthest head that a heartbeat saw. Nearer ones follow from the chain.
	claims map[uuid.UUID]claim
}

type claim struct {
	seq int64
	mac []byte
	by  string // the record that says so
}

func (v *verifier) problem(stream uuid.UUID, seq int64, format string, args ...any) {
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, Problem{StreamID: stream, Seq: seq, What: fmt.Sprintf(format, args...)})
	}
}

func (v *verifier) run(ctx context.Context) error {
	streams, err := v.q.Streams(ctx)
	if err != nil {
		return fmt.Errorf("reading the streams: %w", err)
	}
	if len(streams) == 0 {
		v.problem(uuid.Nil, 0, "there is no stream at all: the making of a vault is on its first one")
	}
	known := make(map[uuid.UUID]*db.StreamsRow, len(streams))
	for i := range streams {
		if known[streams[i].StreamID] != nil {
			v.problem(streams[i].StreamID, 0, "the stream is there twice")
		}
		known[streams[i].StreamID] = &streams[i]
	}
	recorded, err := v.q.RecordedStreams(ctx)
	if err != nil {
		return fmt.Errorf("reading the log's streams: %w", err)
	}
	for _, id := range recorded {
		if known[id] == nil {
			v.problem(id, 0, "the log holds records of a stream that vault.audit_streams doesn't have")
		}
	}
	for i := range streams {
		if err := v.stream(ctx, &streams[i]); err != nil {
			return err
		}
	}
	for i := range streams {
		if err := v.predecessor(ctx, &streams[i], known); err != nil {
			return err
		}
	}
	for id, c := range v.claims {
		if err := v.claim(ctx, id, c, known); err != nil {
			return err
		}
	}
	return nil
}

// stream walks one stream from its opening to its head.
func (v *verifier) stream(ctx context.Context, s *db.StreamsRow) error {
	v.report.Streams++
	if s.State == "open" {
		v.report.Open++
	}
	key, err := v.keys.StreamKey(s.KeyID, s.StreamID)
	if err != nil {
		v.problem(s.StreamID, 0, "the stream names a key that the keyring doesn't have")
		return nil // said in the report
	}
	defer key.Release()

	h := head{mac: v.opening(key, s), at: s.OpenedAt}
	if s.HeadSeq == 0 && !hmac.Equal(h.mac[:], s.HeadMac) {
		v.problem(s.StreamID, 0, "the stream's opening doesn't match its mac")
		return nil
	}
	closed := false
	for {
		rows, err := v.q.Records(ctx, db.RecordsParams{StreamID: s.StreamID, AfterSeq: h.seq, MaxRows: verifyBatch})
		if err != nil {
			return fmt.Errorf("reading stream %s: %w", s.StreamID, err)
		}
		for i := range rows {
			if closed {
				v.problem(s.StreamID, rows[i].Seq, "there is a record behind the stream's closing one")
				return nil
			}
			var ok bool
			if h, closed, ok = v.record(key, s, h, &rows[i]); !ok {
				return nil // everything behind a broken link is unproven; the first one is named
			}
			v.report.Records++
		}
		if v.progress != nil {
			v.progress(v.report.Records)
		}
		if len(rows) < verifyBatch {
			break
		}
	}
	// A second record under a number that is already there would hide behind the order of reading.
	count, err := v.q.CountRecords(ctx, s.StreamID)
	if err != nil {
		return fmt.Errorf("counting stream %s: %w", s.StreamID, err)
	}
	if count != h.seq {
		v.problem(s.StreamID, 0, "the stream holds %d records under %d numbers", count, h.seq)
	}
	state := "open"
	if closed {
		state = "closed"
	}
	switch {
	case h.seq != s.HeadSeq:
		v.problem(s.StreamID, h.seq+1, "the stream's head is at %d, but its records end at %d", s.HeadSeq, h.seq)
	case !hmac.Equal(h.mac[:], s.HeadMac):
		v.problem(s.StreamID, h.seq, "the stream's head doesn't match its last record")
	case !s.HeadAt.Equal(h.at):
		v.problem(s.StreamID, h.seq, "the stream's head has another time than its last record")
	case s.State != state:
		v.problem(s.StreamID, h.seq, "the stream's state is %q, but by its last record it is %s", s.State, state)
	}
	return nil
}

func (v *verifier) opening(key *integrity.StreamKey, s *db.StreamsRow) [32]byte {
	return key.MAC(opening{
		streamID: s.StreamID, vaultID: v.vaultID, keyID: s.KeyID, process: s.Process, kind: s.Kind, openedAt: s.OpenedAt,
		systemID: s.SystemID, timeline: s.Timeline,
		predecessor: s.Predecessor, predecessorSeq: s.PredecessorSeq, predecessorMAC: s.PredecessorMac,
	}.message(nil))
}

// record checks one record against the head before it.
func (v *verifier) record(key *integrity.StreamKey, s *db.StreamsRow, h head, r *db.RecordsRow) (next head, closed, ok bool) {
	switch {
	case r.Seq <= h.seq:
		v.problem(s.StreamID, r.Seq, "the record is there twice")
		return h, false, false
	case r.Seq != h.seq+1:
		v.problem(s.StreamID, h.seq+1, "the record is missing; the next one is %d", r.Seq)
		return h, false, false
	case r.KeyID != s.KeyID:
		v.problem(s.StreamID, r.Seq, "the record names another key than its stream")
		return h, false, false
	case r.At.Before(h.at):
		v.problem(s.StreamID, r.Seq, "the record is older than the one before it")
		return h, false, false
	}
	row := postgres.Record{
		At: r.At, Actor: r.Actor, Action: r.Action, SecretName: r.SecretName, Version: r.Version, Outcome: r.Outcome,
		RequestID: r.RequestID, TraceID: r.TraceID, Detail: r.Detail,
	}
	if r.ClientIP != "" {
		address, err := netip.ParseAddr(r.ClientIP)
		if err != nil || address.Is4In6() { // the mac doesn't tell a mapped address from its IPv4 form, which is what is written
			v.problem(s.StreamID, r.Seq, "the record's address is not one that is ever written")
			return h, false, false
		}
		row.ClientIP = &address
	}
	mac := key.MAC(recordMessage(nil, canon.LabelAuditRecord, s.StreamID, r.Seq, h.mac[:], s.KeyID, &row))
	if !hmac.Equal(mac[:], r.Mac) {
		mac = key.MAC(recordMessage(nil, canon.LabelAuditClose, s.StreamID, r.Seq, h.mac[:], s.KeyID, &row))
		closed = true
	}
	if !hmac.Equal(mac[:], r.Mac) {
		v.problem(s.StreamID, r.Seq, "the record doesn't match its mac: it, or the one before it, was altered, or put there by somebody else")
		return h, false, false
	}
	if r.Action == ActionHeartbeat {
		v.hear(s.StreamID, r)
	}
	return head{seq: r.Seq, mac: mac, at: r.At}, closed, true
}

// hear takes over what a heartbeat saw. Its mac has been checked, so what it says was said by a process of this vault.
func (v *verifier) hear(stream uuid.UUID, r *db.RecordsRow) {
	var seen heartbeat
	if err := json.Unmarshal(r.Detail, &seen); err != nil {
		v.report.Notes = append(v.report.Notes, fmt.Sprintf("heartbeat %s/%d can't be read", stream, r.Seq))
		return
	}
	for _, h := range seen.Heads {
		id, err := uuid.Parse(h.Stream)
		mac, macErr := hex.DecodeString(h.MAC)
		if err != nil || macErr != nil {
			continue
		}
		switch c, known := v.claims[id]; {
		case known && h.Seq == c.seq && !bytes.Equal(mac, c.mac):
			v.problem(id, h.Seq, "heartbeats %s and %s/%d saw different records", c.by, stream, r.Seq)
		case !known || h.Seq > c.seq:
			v.claims[id] = claim{seq: h.Seq, mac: mac, by: fmt.Sprintf("%s/%d of %s", stream, r.Seq, r.At.Format(time.RFC3339))}
		}
	}
}

func (v *verifier) claim(ctx context.Context, id uuid.UUID, c claim, known map[uuid.UUID]*db.StreamsRow) error {
	s := known[id]
	if s == nil {
		v.problem(id, 0, "the stream is gone; heartbeat %s saw it at %d", c.by, c.seq)
		return nil
	}
	mac, found, err := v.macAt(ctx, s, c.seq)
	if err != nil {
		return err
	}
	switch {
	case !found:
		v.problem(id, c.seq, "the record is gone from the stream's end; heartbeat %s saw it", c.by)
	case !bytes.Equal(mac, c.mac):
		v.problem(id, c.seq, "the record is not the one that heartbeat %s saw", c.by)
	}
	return nil
}

// macAt gives the mac that a stream has at seq, or its opening's at 0.
func (v *verifier) macAt(ctx context.Context, s *db.StreamsRow, seq int64) ([]byte, bool, error) {
	if seq == 0 {
		key, err := v.keys.StreamKey(s.KeyID, s.StreamID)
		if err != nil {
			return nil, false, nil // reported when the stream was walked
		}
		defer key.Release()
		mac := v.opening(key, s)
		return mac[:], true, nil
	}
	rows, err := v.q.Records(ctx, db.RecordsParams{StreamID: s.StreamID, AfterSeq: seq - 1, MaxRows: 1})
	if err != nil {
		return nil, false, fmt.Errorf("reading record %s/%d: %w", s.StreamID, seq, err)
	}
	if len(rows) == 0 || rows[0].Seq != seq {
		return nil, false, nil
	}
	return rows[0].Mac, true, nil
}

// predecessor checks that a stream took the place of one that is there and had reached what was acknowledged.
func (v *verifier) predecessor(ctx context.Context, s *db.StreamsRow, known map[uuid.UUID]*db.StreamsRow) error {
	if s.Predecessor == nil || s.PredecessorSeq == nil {
		return nil
	}
	before := known[*s.Predecessor]
	if before == nil {
		// An opening whose commit stayed in doubt and never happened leaves no stream behind, and no record.
		if *s.PredecessorSeq > 0 {
			v.problem(*s.Predecessor, 0, "the stream is gone; stream %s took its place at %d", s.StreamID, *s.PredecessorSeq)
		}
		return nil
	}
	mac, found, err := v.macAt(ctx, before, *s.PredecessorSeq)
	if err != nil {
		return err
	}
	if !found || !bytes.Equal(mac, s.PredecessorMac) {
		v.problem(before.StreamID, *s.PredecessorSeq, "the record is not the one that stream %s took over from", s.StreamID)
	}
	return nil
}
