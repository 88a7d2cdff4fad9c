package audit

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// Report is what verification found. No Problems means that every record is where it was written, unaltered, and that
// nothing that any heartbeat saw is missing.
type Report struct {
	Streams int64
	Open    int64
	Records int64 // that are proven
	// Dropped counts records that are missing together with the days that they were of, if Verification.Since allows for it.
	Dropped int64
	// Problems holds the first of each stream's, those of streams that were never opened by this vault last.
	Problems []Problem
	// Found counts all problems; it is more than len(Problems) when some were left out.
	Found int64
	// Notes tell of what is no tampering, but worth knowing.
	Notes []string
}

// Problem names one record, or the stream itself when Seq is 0, and what is wrong with it.
type Problem struct {
	StreamID uuid.UUID
	Seq      int64
	What     string
}

// A report is bounded: one altered record is enough to know, some more show the extent. The bound is for each stream, so
// that a flood of false records in one can't hide a true problem in another.
const (
	maxProblems       = 1000
	maxStreamProblems = 20
)

const verifyBatch = 2000

// Verification says what else verifying does. The zero value is for nothing else.
type Verification struct {
	// Progress is called now and then with the records done so far.
	Progress func(records int64)
	// Each is called with every record that is proven, stream by stream, and with the first one behind what was dropped, which is not:
	// proven is false. The record is the verifier's again when it returns.
	Each func(r *db.RecordsRow, proven bool)
	// Since is when the first day begins whose partition is there, if earlier ones were dropped. What is missing from the beginning of
	// a stream that is older is counted then, and is no problem. The zero value allows for nothing.
	Since time.Time
}

// Verify walks every stream of the database on one snapshot. An error means that it could not check; what it could check
// and found wrong is in the report. progress, if not nil, is called now and then with the records done so far.
func Verify(ctx context.Context, database *postgres.DB, keys *integrity.Keyring, vaultID uuid.UUID, progress func(records int64)) (report *Report, err error) {
	err = database.Snapshot(ctx, func(q *postgres.Snapshot) error {
		report, err = VerifySnapshot(ctx, q, keys, vaultID, Verification{Progress: progress})
		return err
	})
	return report, err
}

// VerifySnapshot is Verify on a snapshot that the caller has.
func VerifySnapshot(ctx context.Context, q *postgres.Snapshot, keys *integrity.Keyring, vaultID uuid.UUID, with Verification) (*Report, error) {
	v := &verifier{
		q: q.Queries, keys: keys, vaultID: vaultID, with: with, claims: map[uuid.UUID]claim{}, listed: map[uuid.UUID]int{},
		dropped: map[uuid.UUID]int64{}, report: &Report{},
	}
	if err := v.run(ctx); err != nil {
		return nil, err
	}
	for _, p := range v.foreign {
		if len(v.report.Problems) < maxProblems {
			v.report.Problems = append(v.report.Problems, p)
		}
	}
	return v.report, nil
}

type verifier struct {
	q       *db.Queries
	keys    *integrity.Keyring
	vaultID uuid.UUID
	with    Verification
	report  *Report
	dropped map[uuid.UUID]int64 // up to which number a stream's records went with their days
	// claims holds, of each stream, the farthest head that a heartbeat saw. Nearer ones follow from the chain.
	claims map[uuid.UUID]claim
	// foreign holds problems of streams that nobody with the keys opened: anyone who can insert rows can make such.
	foreign []Problem
	listed  map[uuid.UUID]int // problems listed, by stream
}

type claim struct {
	seq int64
	mac []byte
	by  string // the record that says so
}

func (v *verifier) problem(stream uuid.UUID, seq int64, format string, args ...any) {
	v.report.Found++
	if v.listed[stream]++; v.listed[stream] <= maxStreamProblems && len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, Problem{StreamID: stream, Seq: seq, What: fmt.Sprintf(format, args...)})
	}
}

func (v *verifier) foreignStream(stream uuid.UUID, what string) {
	v.report.Found++
	if len(v.foreign) < maxProblems {
		v.foreign = append(v.foreign, Problem{StreamID: stream, What: what})
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
			v.foreignStream(id, "the log holds records of a stream that vault.audit_streams doesn't have")
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
	found, same, err := v.holds(ctx, s, c.seq, c.mac)
	switch {
	case err != nil:
		return err
	case !found && c.seq <= v.dropped[id]:
	case !found:
		v.problem(id, c.seq, "the record is gone from the stream's end; heartbeat %s saw it", c.by)
	case !same:
		v.problem(id, c.seq, "the record is not the one that heartbeat %s saw", c.by)
	}
	return nil
}

// holds tells whether a stream has a record under seq, or its opening at 0, and whether one with that mac.
func (v *verifier) holds(ctx context.Context, s *db.StreamsRow, seq int64, mac []byte) (found, same bool, err error) {
	if seq == 0 {
		key, err := v.keys.StreamKey(s.KeyID, s.StreamID)
		if err != nil {
			return false, false, nil // reported when the stream was walked
		}
		defer key.Release()
		opening := v.opening(key, s)
		return true, hmac.Equal(opening[:], mac), nil
	}
	rows, err := v.q.Records(ctx, db.RecordsParams{StreamID: s.StreamID, AfterSeq: seq - 1, MaxRows: verifyBatch})
	if err != nil {
		return false, false, fmt.Errorf("reading record %s/%d: %w", s.StreamID, seq, err)
	}
	for i := range rows {
		if rows[i].Seq == seq {
			found = true
			same = same || bytes.Equal(rows[i].Mac, mac)
		}
	}
	return found, same, nil
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
	found, same, err := v.holds(ctx, before, *s.PredecessorSeq, s.PredecessorMac)
	if err != nil {
		return err
	}
	if !same && (found || *s.PredecessorSeq > v.dropped[before.StreamID]) {
		v.problem(before.StreamID, *s.PredecessorSeq, "the record is not the one that stream %s took over from", s.StreamID)
	}
	return nil
}
