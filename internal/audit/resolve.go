package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/postgres"
)

// resolver closes streams that this process must not write any more: after an unknown outcome, after a failed compare, when it
// stops, and those that dead processes left open. It takes the stream's row lock first, which waits out a transaction still in
// doubt, so the head it then reads is final.
type resolver struct {
	trail *Trail
	ctx   context.Context // ends when the process gives up resolving
	stop  context.CancelFunc

	mu    sync.Mutex
	doubt map[uuid.UUID]bool
	work  sync.WaitGroup
}

func (r *resolver) start(ctx context.Context) {
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.doubt = map[uuid.UUID]bool{}
}

func (r *resolver) pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.doubt)
}

// resolve closes l in the background, trying until it succeeds or the process ends. It owns l from here.
func (r *resolver) resolve(l *lane, reason error) {
	outcome := "moved"
	if errors.Is(reason, postgres.ErrOutcomeUnknown) {
		outcome = "in_doubt"
		r.trail.metrics.inDoubt.Inc()
	}
	r.trail.log.Warn("closing an audit stream", "stream_id", l.id, "seq", l.head.seq, "why", reason)
	r.close(l.id, outcome, l.release)
}

// closeCleanly closes a stream whose head is known, because its process stops or no longer needs it.
func (r *resolver) closeCleanly(l *lane) { r.close(l.id, "closed", l.release) }

// closeStale closes a stream that another process left.
func (r *resolver) closeStale(id uuid.UUID) { r.close(id, "stale", func() {}) }

func (r *resolver) close(id uuid.UUID, outcome string, release func()) {
	r.mu.Lock()
	if r.doubt[id] {
		r.mu.Unlock()
		release()
		return
	}
	r.doubt[id] = true
	r.mu.Unlock()

	r.work.Add(1)
	go func() {
		defer r.work.Done()
		defer release()
		backoff := 10 * time.Millisecond
		for r.ctx.Err() == nil {
			err := r.trail.closeStream(r.ctx, id, outcome)
			if err == nil {
				r.mu.Lock()
				delete(r.doubt, id)
				r.mu.Unlock()
				return
			}
			r.trail.log.Debug("an audit stream could not be closed yet", "stream_id", id, "error", err)
			sleep(r.ctx, backoff/2+rand.N(backoff/2)) //nolint:gosec // jitter, not a secret
			backoff = min(2*backoff, 2*time.Second)
		}
	}()
}

// finish waits for what is being closed until ctx ends, then gives up: heartbeats and other processes will deal with the rest.
func (r *resolver) finish(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		r.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		if n := r.pending(); n > 0 {
			r.trail.log.Warn("audit streams were left open: the database didn't answer", "streams", n)
		}
	}
	r.stop()
	<-done
}

// closeStream closes one stream in one transaction. A stream that isn't there (its opening was never committed) or is
// closed already is nothing to do. An unknown outcome comes back as an error, and the next try finds out.
func (t *Trail) closeStream(ctx context.Context, id uuid.UUID, outcome string) error {
	tx, err := t.db.Begin(ctx)
	if err != nil {
		return err
	}
	row, err := tx.LockStream(ctx, id)
	if postgres.IsNotFound(err) || (err == nil && row.State != "open") {
		tx.Rollback(ctx)
		return nil
	}
	if err == nil {
		err = t.closeLocked(ctx, tx, row, outcome)
	}
	if err != nil {
		tx.Rollback(ctx)
		return err
	}
	_, err = tx.Commit(ctx)
	return err
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
		Actor: "process:" + t.cfg.Process, Action: ActionStreamClosed, Outcome: outcome, RequestID: "-",
	})
}
