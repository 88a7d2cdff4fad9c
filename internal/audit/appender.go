package audit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

const (
	// maxQueued bounds the requests that may wait for a round; more are refused at once.
	maxQueued = 8192
	// maxRoundRecords bounds one round's statement.
	maxRoundRecords = 4096
	// aliveEvery is how often an idle connection is asked for a sign of life, so that a loss is noticed before a request
	// pays for it.
	aliveEvery = 500 * time.Millisecond
)

var (
	errNotReady  = errors.New("audit rounds can't run: there is no connection to the primary")
	errQueueFull = errors.New("too many requests wait for an audit round")
	errTooLate   = errors.New("the audit record wasn't committed in time")
)

// entry is one request's records on their way through a round.
type entry struct {
	records []Record
	done    chan error // receives exactly one answer, and has room for it
	gone    atomic.Bool
}

// appender runs shared rounds on one lane over one connection: everything that is queued when a round starts goes along in one
// statement, and all its requests are answered once it is committed.
type appender struct {
	trail *Trail
	kind  string
	ready atomic.Bool

	mu      sync.Mutex
	queue   []*entry
	stopped bool
	wake    chan struct{}

	// Of the loop alone.
	conn   *postgres.AuditConn
	lane   *lane
	before *predecessor
}

func newAppender(t *Trail, kind string) *appender {
	return &appender{trail: t, kind: kind, wake: make(chan struct{}, 1)}
}

func (a *appender) append(ctx context.Context, timeout time.Duration, records []Record) error {
	if len(records) == 0 || len(records) > maxRoundRecords {
		return fault.Wrap(fault.Internal, errors.New("an append takes 1 to 4096 records"), "")
	}
	if err := checkDetails(records); err != nil {
		return err
	}
	if !a.ready.Load() {
		a.trail.metrics.refused.WithLabelValues(a.kind).Inc()
		return unavailable(errNotReady)
	}
	e := &entry{records: records, done: make(chan error, 1)}
	if err := a.enqueue(e); err != nil {
		a.trail.metrics.refused.WithLabelValues(a.kind).Inc()
		return unavailable(err)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case err := <-e.done:
		return err
	case <-timer.C:
		e.gone.Store(true)
		a.trail.metrics.refused.WithLabelValues(a.kind).Inc()
		return unavailable(errTooLate)
	case <-ctx.Done():
		// If the round has taken the entry its record may be committed without an answer: more evidence than disclosure.
		e.gone.Store(true)
		return unavailable(context.Cause(ctx))
	}
}

func (a *appender) enqueue(e *entry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return errNotReady
	}
	if len(a.queue) >= maxQueued {
		return errQueueFull
	}
	a.queue = append(a.queue, e)
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return nil
}

func (a *appender) queued() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.queue)
}

// take removes what goes along in the next round. Entries whose requests have left are dropped: they cost nobody anything.
func (a *appender) take() []*entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	var taken []*entry
	records := 0
	for len(a.queue) > 0 {
		e := a.queue[0]
		if !e.gone.Load() {
			if records+len(e.records) > maxRoundRecords {
				break
			}
			records += len(e.records)
			taken = append(taken, e)
		}
		a.queue[0] = nil
		a.queue = a.queue[1:]
	}
	if len(a.queue) == 0 {
		a.queue = nil
	}
	return taken
}

func (a *appender) refuse(entries []*entry, err error) {
	if len(entries) > 0 {
		a.trail.metrics.refused.WithLabelValues(a.kind).Add(float64(len(entries)))
	}
	answer(entries, err)
}

// refuseQueued refuses everything that waits, which may be more than one round would take.
func (a *appender) refuseQueued(cause error) {
	for entries := a.take(); len(entries) > 0; entries = a.take() {
		a.refuse(entries, unavailable(cause))
	}
}

func answer(entries []*entry, err error) {
	for _, e := range entries {
		e.done <- err
	}
}
