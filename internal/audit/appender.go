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
	// maxQueuedBytes bounds what the records of those requests hold, in bytes, at recordBytes each and their details.
	maxQueuedBytes = 32 << 20
	recordBytes    = 256
	// maxRoundRecords and maxRoundHeld bound one round's statement.
	maxRoundRecords = 4096
	maxRoundHeld    = 4096
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
	basis   Basis
	done    chan error // receives exactly one answer, and has room for it
	timer   *time.Timer
	gone    atomic.Bool
}

// entries are used again once they were answered. One whose request has left may still be in a round, and isn't.
var entries = sync.Pool{New: func() any {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &entry{done: make(chan error, 1), timer: timer}
}}

func (e *entry) reuse() {
	e.timer.Stop()
	e.records, e.basis = nil, Basis{}
	entries.Put(e)
}

// size is about how many bytes an entry holds on to.
func (e *entry) size() int {
	n := 0
	for i := range e.records {
		n += recordBytes + len(e.records[i].Detail)
	}
	return n
}

// appender runs shared rounds on one lane over one connection: everything that is queued when a round starts goes along in one
// statement, and all its requests are answered once it is committed.
type appender struct {
	trail *Trail
	kind  string
	ready atomic.Bool
	// connection counts the connections that rounds have run on.
	connection atomic.Int64

	mu          sync.Mutex
	queue       []*entry
	queuedBytes int
	stopped     bool
	wake        chan struct{}

	// Of the loop alone.
	conn   *postgres.AuditConn
	lane   *lane
	before *predecessor
	taken  []*entry
	spare  []*entry // the queue's other array
	held   []postgres.Held
	stall  *time.Timer
}

func newAppender(t *Trail, kind string) *appender {
	a := &appender{trail: t, kind: kind, wake: make(chan struct{}, 1)}
	// Who joined a round that doesn't end in time would only wait in vain. The next turn of the loop makes ready again.
	a.stall = time.AfterFunc(time.Hour, func() { a.ready.Store(false) })
	a.stall.Stop()
	return a
}

func (a *appender) append(ctx context.Context, timeout time.Duration, records []Record) error {
	return a.appendOn(ctx, timeout, Basis{}, records)
}

func (a *appender) appendOn(ctx context.Context, timeout time.Duration, basis Basis, records []Record) error {
	if len(records) == 0 || len(records) > maxRoundRecords || len(basis.Held) > maxRoundHeld {
		return fault.Wrap(fault.Internal, errors.New("an append takes 1 to 4096 records, and rests on at most 4096 rows"), "")
	}
	if err := checkDetails(records); err != nil {
		return err
	}
	if !a.ready.Load() {
		a.trail.metrics.refused.WithLabelValues(a.kind).Inc()
		return unavailable(errNotReady)
	}
	e := entries.Get().(*entry)
	e.records, e.basis = records, basis
	began := a.trail.cfg.Clock()
	if err := a.enqueue(e); err != nil {
		e.reuse()
		a.trail.metrics.refused.WithLabelValues(a.kind).Inc()
		return unavailable(err)
	}
	e.timer.Reset(timeout)
	select {
	case err := <-e.done:
		e.reuse()
		if err == nil && a.trail.cfg.Clock().Sub(began) > timeout {
			// It was answered in time, but this process got to it too late: what was true then needn't be any more.
			a.trail.metrics.refused.WithLabelValues(a.kind).Inc()
			return unavailable(errTooLate)
		}
		return err
	case <-e.timer.C:
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
	if len(a.queue) >= maxQueued || a.queuedBytes > maxQueuedBytes {
		return errQueueFull
	}
	a.queue = append(a.queue, e)
	a.queuedBytes += e.size()
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

// take removes what goes along in the next round; it is valid until the next call. Entries whose requests have left are
// dropped: they cost nobody anything.
func (a *appender) take() []*entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.taken)
	a.taken = a.taken[:0]
	records, held, n := 0, 0, 0
	for _, e := range a.queue {
		if !e.gone.Load() {
			if records+len(e.records) > maxRoundRecords || held+len(e.basis.Held) > maxRoundHeld {
				break
			}
			records += len(e.records)
			held += len(e.basis.Held)
			a.taken = append(a.taken, e)
		}
		a.queuedBytes -= e.size()
		n++
	}
	// What stays moves to the other array, so that neither grows at its end for ever.
	rest := append(a.spare[:0], a.queue[n:]...)
	clear(a.queue)
	a.queue, a.spare = rest, a.queue[:0]
	return a.taken
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
