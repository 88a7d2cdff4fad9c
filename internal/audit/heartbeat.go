package audit

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

const (
	// beatEvery is the heartbeat's pace while the process is active: what a crash can lose unnoticed is bounded by it.
	beatEvery = time.Second
	// restEvery is its pace while nothing happens, so that an idle stream still shows that it is alive.
	restEvery = 10 * time.Minute
	// staleAfter is how long a stream of another process must have stood still to be closed for it. Closing one too many does
	// no harm: its owner's next compare fails and it opens another.
	staleAfter = time.Hour
	// headsPerBeat keeps a heartbeat's detail below its bound; maxHeads bounds one beat.
	headsPerBeat = 400
	maxHeads     = 10 * headsPerBeat
)

// heartbeat is a heartbeat's detail: the heads of the open streams that the process saw committed.
type heartbeat struct {
	Heads []seenHead `json:"heads"`
}

type seenHead struct {
	Stream string `json:"stream"`
	Seq    int64  `json:"seq"`
	MAC    string `json:"mac"` // lower-case hex
}

// heartbeats writes, once a second while the process is active, a record with the heads of all open streams. Who cuts the
// tail off a stream must then also rewrite the streams of every process that saw it.
func (t *Trail) heartbeats(ctx context.Context) {
	var p pulse
	for sleep(ctx, beatEvery) {
		t.beat(ctx, &p)
	}
}

// pulse is what the last heartbeat that was written knew.
type pulse struct {
	activity int64
	at       time.Time
}

// beat writes a heartbeat if one is due: when something happened since the last one, or nothing for long.
func (t *Trail) beat(ctx context.Context, last *pulse) {
	// Read before the heads are: what happens in between makes the next one due.
	now := pulse{activity: t.activity.Load(), at: t.cfg.Clock()}
	if (now.activity == last.activity && now.at.Sub(last.at) < restEvery) || !t.Ready() {
		return
	}
	records, err := t.beatRecords(ctx)
	if err == nil {
		// Its own records are no activity, or an idle process would never rest.
		err = t.reads.append(ctx, t.cfg.Timeout, records)
	}
	if err != nil {
		t.log.Debug("a heartbeat was not written", "error", err)
		return
	}
	*last = now
}

func (t *Trail) beatRecords(ctx context.Context) ([]Record, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	defer cancel()
	heads, err := t.db.OpenHeads(ctx, maxHeads)
	if err != nil {
		return nil, fmt.Errorf("reading the open streams' heads: %w", err)
	}
	var records []Record
	for {
		n := min(len(heads), headsPerBeat)
		detail := heartbeat{Heads: make([]seenHead, n)}
		for i, h := range heads[:n] {
			detail.Heads[i] = seenHead{Stream: h.StreamID.String(), Seq: h.HeadSeq, MAC: hex.EncodeToString(h.HeadMac)}
		}
		text, err := json.Marshal(detail)
		if err != nil {
			return nil, fmt.Errorf("encoding a heartbeat: %w", err)
		}
		records = append(records, Record{
			Actor: "process:" + t.cfg.Process, Action: ActionHeartbeat, Outcome: "ok", RequestID: "-", Detail: text,
		})
		if heads = heads[n:]; len(heads) == 0 {
			return records, nil
		}
	}
}

// tidy closes lanes that have been idle, and the streams of processes that are gone.
func (t *Trail) tidy(ctx context.Context) {
	for sleep(ctx, time.Minute+rand.N(10*time.Second)) { //nolint:gosec // jitter, not a secret
		t.tidyOnce(ctx)
	}
}

func (t *Trail) tidyOnce(ctx context.Context) {
	t.changes.closeIdle(t.cfg.Clock().Add(-restEvery))
	stale, err := t.db.StaleStreams(ctx, db.StaleStreamsParams{
		IdleSecs: staleAfter.Seconds(), Process: t.cfg.Process, MaxRows: 100,
	})
	if err != nil {
		t.log.Debug("stale audit streams were not looked for", "error", err)
		return
	}
	for _, id := range stale {
		t.resolver.closeStale(id)
	}
}
