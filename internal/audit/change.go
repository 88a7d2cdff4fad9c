package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// Change runs a mutation and its evidence in one transaction (I3). fn does the mutation's statements and returns the records that
// speak of them; it may run a second time, on a fresh transaction, when the first was rolled back for the lane's sake, so
// it must leave nothing behind outside the transaction.
//
// An error from fn rolls back and comes back as it is. When the outcome of the commit is unknown, or isn't known in
// time, the error is of kind Unavailable and wraps postgres.ErrOutcomeUnknown; the mutation is never tried again here.
func (t *Trail) Change(ctx context.Context, fn func(ctx context.Context, tx *postgres.Tx) ([]Record, error)) error {
	t.activity.Add(1)
	for attempt := 0; ; attempt++ {
		err := t.changeOnce(ctx, fn)
		if attempt == 0 && errors.Is(err, postgres.ErrStreamMoved) {
			t.metrics.moved.Inc()
			continue
		}
		return err
	}
}

func (t *Trail) changeOnce(ctx context.Context, fn func(ctx context.Context, tx *postgres.Tx) ([]Record, error)) error {
	l, err := t.changes.take(ctx)
	if err != nil {
		return err
	}
	tx, err := t.db.Begin(ctx)
	if err != nil {
		t.changes.giveBack(l)
		return postgres.Fault(err)
	}
	next, records, err := t.appendIn(ctx, tx, l, fn)
	if err != nil {
		// No commit was asked for, so whatever happened to the connection, nothing of this takes effect.
		tx.Rollback(ctx)
		if errors.Is(err, postgres.ErrStreamMoved) {
			t.log.Error("an audit stream was moved or closed by somebody else", "stream_id", l.id, "seq", l.head.seq)
			t.changes.retire(l, err)
		} else {
			t.changes.giveBack(l)
		}
		return err
	}

	// The commit runs to its answer whatever becomes of the request, and the lane waits for it.
	done := make(chan error, 1)
	t.changes.committing.Add(1)
	go func() {
		defer t.changes.committing.Done()
		began := t.cfg.Clock()
		outcome, err := tx.Commit(ctx)
		t.metrics.round(kindChange, outcome, records, t.cfg.Clock().Sub(began))
		switch outcome {
		case postgres.Committed:
			l.head = next
			t.changes.giveBack(l)
		case postgres.RolledBack:
			t.changes.giveBack(l)
		case postgres.Unknown:
			t.changes.retire(l, err)
		}
		done <- err
	}()

	timer := time.NewTimer(t.cfg.Timeout)
	defer timer.Stop()
	select {
	case err := <-done:
		return postgres.Fault(err)
	case <-timer.C:
		return unavailable(fmt.Errorf("%w: no answer in time", postgres.ErrOutcomeUnknown))
	}
}

// appendIn runs the mutation's statements and the append, and returns where the lane's head will be if this commits.
func (t *Trail) appendIn(ctx context.Context, tx *postgres.Tx, l *lane, fn func(context.Context, *postgres.Tx) ([]Record, error)) (head, int, error) {
	records, err := fn(ctx, tx)
	if err != nil {
		return head{}, 0, err
	}
	if len(records) == 0 {
		return head{}, 0, fault.Wrap(fault.Internal, errors.New("a mutation came without its audit record"), "")
	}
	request, next := l.append(t.clock, records)
	result, err := tx.Append(ctx, request)
	if errors.Is(err, postgres.ErrStreamMoved) {
		return head{}, 0, err
	}
	if err != nil {
		if postgres.IsDataError(err) {
			return head{}, 0, fault.Wrap(fault.Internal, err, "")
		}
		return head{}, 0, postgres.Fault(err)
	}
	t.clock.observe(result.DatabaseTime)
	return next, len(records), nil
}

// openLane opens a stream of its own transaction. An opening whose outcome is unknown goes to the resolver; an error means
// that there is no lane.
func (t *Trail) openLane(ctx context.Context, kind string, before *predecessor) (*lane, error) {
	openCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tx, err := t.db.Begin(openCtx)
	if err != nil {
		return nil, err
	}
	server, err := tx.ServerIdentity(openCtx)
	if err != nil {
		tx.Rollback(ctx)
		return nil, fmt.Errorf("asking the server for its identity: %w", err)
	}
	t.clock.observe(server.ReadAt)
	l, row, err := newLane(t.keys, t.vaultID, t.cfg.Process, kind, server, before)
	if err != nil {
		tx.Rollback(ctx)
		return nil, err
	}
	if err := tx.OpenStream(openCtx, row); err != nil {
		tx.Rollback(ctx)
		l.release()
		return nil, fmt.Errorf("opening an audit stream: %w", err)
	}
	switch outcome, err := tx.Commit(openCtx); outcome {
	case postgres.Committed:
		return l, nil
	case postgres.RolledBack:
		l.release()
		return nil, err
	default:
		t.resolver.resolve(l, err)
		return nil, err
	}
}

// changeLanes is the pool of lanes for mutations: opened when needed, bounded, reused.
type changeLanes struct {
	trail      *Trail
	slots      chan struct{} // one per lane that may be in use
	committing sync.WaitGroup

	mu     sync.Mutex
	free   []freeLane
	open   int
	before []predecessor // retired lanes that a new one should name
	closed bool
}

type freeLane struct {
	*lane
	since time.Time
}

func newChangeLanes(t *Trail, limit int) *changeLanes {
	return &changeLanes{trail: t, slots: make(chan struct{}, limit)}
}

func (c *changeLanes) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// take gives the caller a lane to itself, for as long as it takes.
func (c *changeLanes) take(ctx context.Context) (*lane, error) {
	timer := time.NewTimer(c.trail.cfg.Timeout)
	defer timer.Stop()
	select {
	case c.slots <- struct{}{}:
	case <-timer.C:
		return nil, unavailable(errors.New("too many changes are waiting for their commits"))
	case <-ctx.Done():
		return nil, unavailable(context.Cause(ctx))
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		<-c.slots
		return nil, unavailable(errors.New("the audit trail was stopped"))
	}
	if n := len(c.free); n > 0 {
		l := c.free[n-1].lane
		c.free = c.free[:n-1]
		c.mu.Unlock()
		return l, nil
	}
	var before *predecessor
	if n := len(c.before); n > 0 {
		before = &predecessor{id: c.before[n-1].id, head: c.before[n-1].head}
		c.before = c.before[:n-1]
	}
	c.mu.Unlock()

	l, err := c.trail.openLane(ctx, kindChange, before)
	if err != nil {
		if before != nil {
			c.mu.Lock()
			c.before = append(c.before, *before)
			c.mu.Unlock()
		}
		<-c.slots
		return nil, postgres.Fault(err)
	}
	c.mu.Lock()
	c.open++
	c.mu.Unlock()
	return l, nil
}

// giveBack returns a lane whose head is known.
func (c *changeLanes) giveBack(l *lane) {
	c.mu.Lock()
	c.free = append(c.free, freeLane{lane: l, since: c.trail.cfg.Clock()})
	c.mu.Unlock()
	<-c.slots
}

// retire takes a lane out of use for good and gives it to the resolver.
func (c *changeLanes) retire(l *lane, reason error) {
	c.mu.Lock()
	c.open--
	c.before = append(c.before, predecessor{id: l.id, head: l.head})
	c.mu.Unlock()
	c.trail.resolver.resolve(l, reason)
	<-c.slots
}

// retireAll retires every lane that is not in use; those in use will fail their own compare if they are affected.
func (c *changeLanes) retireAll(reason error) {
	c.mu.Lock()
	lanes := c.free
	c.free = nil
	c.open -= len(lanes)
	for _, l := range lanes {
		c.before = append(c.before, predecessor{id: l.id, head: l.head})
	}
	c.mu.Unlock()
	for _, l := range lanes {
		c.trail.resolver.resolve(l.lane, reason)
	}
}

// closeIdle closes the lanes that have not been used since before.
func (c *changeLanes) closeIdle(before time.Time) {
	c.mu.Lock()
	var keep, idle []freeLane
	for _, l := range c.free {
		if l.since.Before(before) {
			idle = append(idle, l)
		} else {
			keep = append(keep, l)
		}
	}
	c.free = keep
	c.open -= len(idle)
	c.mu.Unlock()
	for _, l := range idle {
		c.trail.resolver.closeCleanly(l.lane)
	}
}

// drain waits for the commits in flight until ctx ends and closes all lanes.
func (c *changeLanes) drain(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	done := make(chan struct{})
	go func() {
		c.committing.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.New("audit: commits are still in flight")
	}
	c.closeIdle(c.trail.cfg.Clock().Add(time.Hour))
	return err
}
