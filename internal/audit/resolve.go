package audit

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// The outcomes of closing records say why the stream was closed.
const (
	closedCleanly = "closed"   // its process stopped, or no longer needed it
	closedInDoubt = "in_doubt" // an append's outcome was unknown
	closedMoved   = "moved"    // an append found another head, or a closed stream
	closedRetired = "retired"  // another reason to go on on a new stream; the log says which
	closedStale   = "stale"    // another process left it
)

// resolver closes streams that this process must not write any more: after an unknown outcome, after a failed compare, when it
// stops, and those that dead processes left open. It takes the stream's row lock first, which waits out a transaction still in
// doubt, so the head it then reads is final. A head that is not where this process left it is an alarm.
type resolver struct {
	trail *Trail
	ctx   context.Context // ends when the process gives up resolving
	stop  context.CancelFunc

	mu       sync.Mutex
	finished bool
	doubt    map[uuid.UUID]bool
	work     sync.WaitGroup
}

func newResolver(t *Trail) *resolver {
	r := &resolver{trail: t, doubt: map[uuid.UUID]bool{}}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

func (r *resolver) pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.doubt)
}

// closing is a stream to be closed.
type closing struct {
	id      uuid.UUID
	outcome string
	left    *head // where this process left the stream, if it knows the stream to be there
	asked   bool  // closed by us already, perhaps: a commit that was to do it stayed in doubt
}

// resolve closes l in the background, trying until it succeeds or the process ends. It owns l from here.
func (r *resolver) resolve(l *lane, reason error) {
	c := closing{id: l.id, outcome: closedRetired, left: &l.head}
	switch {
	case errors.Is(reason, postgres.ErrOutcomeUnknown):
		c.outcome = closedInDoubt
		r.trail.metrics.inDoubt.Inc()
	case errors.Is(reason, postgres.ErrStreamMoved):
		c.outcome = closedMoved
	}
	r.trail.log.Warn("closing an audit stream", "stream_id", l.id, "seq", l.head.seq, "why", reason)
	r.close(c, l.release)
}

// resolveOpening closes a stream of which it is unknown whether it was ever opened.
func (r *resolver) resolveOpening(l *lane, reason error) {
	r.trail.metrics.inDoubt.Inc()
	r.trail.log.Warn("closing an audit stream that may not exist", "stream_id", l.id, "why", reason)
	r.close(closing{id: l.id, outcome: closedInDoubt}, l.release)
}

// closeCleanly closes a stream whose head is known, because its process stops or no longer needs it.
func (r *resolver) closeCleanly(l *lane) {
	r.close(closing{id: l.id, outcome: closedCleanly, left: &l.head}, l.release)
}

// closeStale closes a stream that another process left.
func (r *resolver) closeStale(id uuid.UUID) {
	r.close(closing{id: id, outcome: closedStale}, func() {})
}

func (r *resolver) close(c closing, release func()) {
	r.mu.Lock()
	if r.doubt[c.id] || r.finished {
		r.mu.Unlock()
		release()
		return
	}
	r.doubt[c.id] = true
	r.work.Add(1) // under the lock, so never once finish waits
	r.mu.Unlock()

	go func() {
		defer r.work.Done()
		defer release()
		backoff := 10 * time.Millisecond
		for r.ctx.Err() == nil {
			err := r.trail.closeStream(r.ctx, &c)
			if err == nil {
				r.mu.Lock()
				delete(r.doubt, c.id)
				r.mu.Unlock()
				return
			}
			r.trail.log.Debug("an audit stream could not be closed yet", "stream_id", c.id, "error", err)
			sleep(r.ctx, backoff/2+rand.N(backoff/2)) //nolint:gosec // jitter, not a secret
			backoff = min(2*backoff, 2*time.Second)
		}
	}()
}

// finish waits for what is being closed until ctx ends, then gives up: heartbeats and other processes will deal with the rest.
func (r *resolver) finish(ctx context.Context) error {
	defer r.stop()
	r.mu.Lock()
	r.finished = true
	r.mu.Unlock()
	if waitFor(ctx, &r.work) {
		return nil
	}
	return fmt.Errorf("audit: %d streams were left open: the database didn't answer", r.pending())
}

// closeStream closes one stream in one transaction. A stream that isn't there (its opening was never committed) or is
// closed already is nothing to do. An unknown outcome comes back as an error, and the next try finds out.
func (t *Trail) closeStream(ctx context.Context, c *closing) error {
	tx, err := t.db.Begin(ctx)
	if err != nil {
		return err
	}
	row, err := tx.LockStream(ctx, c.id)
	there := !postgres.IsNotFound(err)
	if err != nil && there {
		tx.Rollback(ctx)
		return err
	}
	if surprise := t.surprise(c, there, &row); surprise != "" {
		t.metrics.moved.Inc()
		t.log.Error("an audit stream is not as this process left it: verify the audit trail", "stream_id", c.id,
			"what", surprise, "left_at", c.left.seq, "found_at", row.HeadSeq)
		c.outcome, c.left = closedMoved, nil // said once
	}
	if !there || row.State != "open" {
		tx.Rollback(ctx)
		return nil
	}
	// Under the lock the head is final. A closing record vouches for all that is before it, so the head must be one of ours.
	heads, err := tx.Heads(ctx, db.HeadsParams{OneStream: &c.id, MaxRows: witnessPage})
	if err != nil {
		tx.Rollback(ctx)
		return err
	}
	if len(t.checkHeads(ctx, heads)) == 0 {
		tx.Rollback(ctx)
		return nil // it stays open, an alarm for every process that looks at it, and a problem for verification
	}
	if err := t.closeLocked(ctx, tx, row, c.outcome); err != nil {
		tx.Rollback(ctx)
		return err
	}
	outcome, err := tx.Commit(ctx)
	c.asked = c.asked || outcome == postgres.Unknown
	return err
}

// surprise tells what of a stream's row somebody else must have changed, if anything.
func (t *Trail) surprise(c *closing, there bool, row *lockedStream) string {
	switch {
	case c.left == nil:
		return ""
	case !there:
		return "it is gone"
	case row.State != "open":
		// Another process closes what stood still for long, as this one does: see tidy.
		if c.asked || row.ReadAt.Sub(c.left.at) >= staleAfter {
			return ""
		}
		return "it was closed"
	case row.HeadSeq < c.left.seq:
		return "its head was moved back"
	case row.HeadSeq > c.left.seq && c.outcome != closedInDoubt:
		return "its head was moved on"
	case row.HeadSeq == c.left.seq && !hmac.Equal(row.HeadMac, c.left.mac[:]):
		return "its head was replaced"
	default:
		return ""
	}
}

func (t *Trail) closeLocked(ctx context.Context, tx *postgres.Tx, row lockedStream, outcome string) error {
	key, err := t.keys.StreamKey(row.KeyID, row.StreamID)
	if err != nil {
		return fmt.Errorf("deriving the stream's key: %w", err)
	}
	defer key.Release()
	h := head{seq: row.HeadSeq, at: row.HeadAt}
	if copy(h.mac[:], row.HeadMac) != len(h.mac) {
		return fmt.Errorf("stream %s has a head of %d bytes", row.StreamID, len(row.HeadMac))
	}
	return closeIn(ctx, tx, key, row, h, Record{
		Actor: t.Actor(), Action: ActionStreamClosed, Outcome: outcome, RequestID: "-",
	})
}
