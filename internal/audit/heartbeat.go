package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

const (
	// beatEvery is the heartbeat's pace while the process is active: what a crash can lose unnoticed is bounded by it.
	beatEvery = time.Second
	// restEvery is its pace while nothing happens here, so that an idle stream still shows that it is alive, and others'
	// streams are witnessed all the same.
	restEvery = time.Minute
	// idleAfter is how long a lane for changes may be unused before it is closed.
	idleAfter = 10 * time.Minute
	// staleAfter is how long a stream of another process must have stood still to be closed for it. Closing one too many does
	// no harm: its owner's next compare fails and it opens another.
	staleAfter = time.Hour
	// headsPerRecord keeps a heartbeat's detail below its bound; recordsPerAppend keeps a beat's round small.
	headsPerRecord   = 400
	recordsPerAppend = 8
	// closedOverlap is how far back a beat looks for closed streams beyond the last one: their commits may come late.
	closedOverlap = time.Minute
)

// heartbeat is a heartbeat's detail: the heads that the process saw committed and checked.
type heartbeat struct {
	Heads []seenHead `json:"heads"`
}

type seenHead struct {
	Stream string `json:"stream"`
	Seq    int64  `json:"seq"`
	MAC    string `json:"mac"` // lower-case hex
}

// heartbeats writes, once a second while the process is active, records with the heads of all open streams and of those that
// were closed since the last beat; a process's first beat carries the heads of all streams there are. Who removes a stream, or
// cuts its tail off, must then also rewrite the streams of every process that has started or beaten since.
func (t *Trail) heartbeats(ctx context.Context) {
	var p pulse
	for sleep(ctx, beatEvery) {
		t.beat(ctx, &p)
	}
}

// pulse is what the last heartbeat that was written knew.
type pulse struct {
	activity int64
	at       time.Time // on our clock
	database time.Time // on the primary's; zero before the first beat
}

// beat writes a heartbeat if one is due: when something happened since the last one, or nothing for long.
func (t *Trail) beat(ctx context.Context, last *pulse) {
	if !t.Ready() {
		return
	}
	// Read before the heads are: what happens in between makes the next one due.
	now := pulse{activity: t.activity.Load(), at: t.cfg.Clock(), database: t.clock.read()}
	if now.activity == last.activity && now.at.Sub(last.at) < restEvery {
		return
	}
	since := time.Unix(0, 0)
	if !last.database.IsZero() {
		since = last.database.Add(-closedOverlap)
	}
	heads, err := t.witness(ctx, since)
	if err == nil {
		err = t.writeBeat(ctx, heads)
	}
	if err != nil {
		t.metrics.beatsMissed.Inc()
		t.log.Error("a heartbeat was not written: what is removed from a stream's end meanwhile may not show", "error", err)
		return
	}
	*last = now
}

// writeBeat appends heads. Its own records are no activity, or an idle process would never rest.
func (t *Trail) writeBeat(ctx context.Context, heads []seenHead) error {
	var records []Record
	for first := true; first || len(heads) > 0; first = false {
		n := min(len(heads), headsPerRecord)
		text, err := json.Marshal(heartbeat{Heads: heads[:n]})
		if err != nil {
			return fmt.Errorf("encoding a heartbeat: %w", err)
		}
		heads = heads[n:]
		records = append(records, Record{
			Actor: t.Actor(), Action: ActionHeartbeat, Outcome: "ok", RequestID: "-", Detail: text,
		})
		if len(records) == recordsPerAppend || len(heads) == 0 {
			if err := t.reads.append(ctx, t.cfg.Timeout, records); err != nil {
				return err
			}
			records = nil
		}
	}
	return nil
}

// tidy closes lanes that have been idle, and the streams of processes that are gone.
func (t *Trail) tidy(ctx context.Context) {
	for sleep(ctx, time.Minute+rand.N(10*time.Second)) { //nolint:gosec // jitter, not a secret
		t.tidyOnce(ctx)
	}
}

func (t *Trail) tidyOnce(ctx context.Context) {
	t.changes.closeIdle(t.cfg.Clock().Add(-idleAfter))
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
