package audit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// changeLanes is the pool of lanes for mutations: opened when needed, bounded, reused.
type changeLanes struct {
	trail *Trail
	slots chan struct{} // one per lane that may be in use; whoever holds a lane holds one

	mu      sync.Mutex
	free    []freeLane
	open    int
	before  []predecessor // retired lanes that a new one should name
	running bool
}

type freeLane struct {
	*lane
	since time.Time
}

func newChangeLanes(t *Trail, limit int) *changeLanes {
	return &changeLanes{trail: t, slots: make(chan struct{}, limit)}
}

func (c *changeLanes) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = true
}

var errNotRunning = errors.New("the audit trail isn't running")

func (c *changeLanes) isRunning() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running
}

func (c *changeLanes) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// take gives the caller a lane to itself, for as long as it takes.
func (c *changeLanes) take(ctx context.Context) (*lane, error) {
	if !c.isRunning() {
		return nil, unavailable(errNotRunning)
	}
	timer := time.NewTimer(c.trail.cfg.Timeout)
	defer timer.Stop()
	select {
	case c.slots <- struct{}{}:
	case <-timer.C:
		return nil, unavailable(errors.New("too many changes are waiting for their commits"))
	case <-ctx.Done():
		return nil, unavailable(context.Cause(ctx))
	}
	l, before, err := c.takeFree()
	if err != nil {
		<-c.slots
		return nil, err
	}
	if l != nil {
		return l, nil
	}
	l, err = c.trail.openLane(ctx, kindChange, before)
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

// takeFree gives a free lane, or, if there is none, whom a new one should name as its predecessor.
func (c *changeLanes) takeFree() (*lane, *predecessor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running {
		return nil, nil, unavailable(errNotRunning)
	}
	for n := len(c.free); n > 0; n = len(c.free) {
		l := c.free[n-1].lane
		c.free = c.free[:n-1]
		if !l.current(c.trail.keys) {
			c.open--
			c.trail.resolver.closeCleanly(l)
			continue
		}
		if !l.ahead(c.trail.clock) {
			return l, nil, nil
		}
		c.open--
		c.before = append(c.before, predecessor{id: l.id, head: l.head})
		c.trail.resolver.resolve(l, errClockSetBack)
	}
	n := len(c.before)
	if n == 0 {
		return nil, nil, nil
	}
	before := c.before[n-1]
	c.before = c.before[:n-1]
	return nil, &before, nil
}

// giveBack returns a lane whose head is known.
func (c *changeLanes) giveBack(l *lane) {
	c.mu.Lock()
	if c.running {
		c.free = append(c.free, freeLane{lane: l, since: c.trail.cfg.Clock()})
		l = nil
	} else {
		c.open--
	}
	c.mu.Unlock()
	if l != nil {
		c.trail.resolver.closeCleanly(l)
	}
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
	c.retireFree(reason, func(*lane) bool { return true })
}

// retireOff retires the lanes that were opened on another server than this one, or on another timeline.
func (c *changeLanes) retireOff(server db.ServerIdentityRow) {
	c.retireFree(errServerChanged, func(l *lane) bool { return !l.on(server) })
}

func (c *changeLanes) retireFree(reason error, affected func(*lane) bool) {
	var retired []*lane
	c.mu.Lock()
	c.free = slices.DeleteFunc(c.free, func(f freeLane) bool {
		if !affected(f.lane) {
			return false
		}
		retired = append(retired, f.lane)
		c.before = append(c.before, predecessor{id: f.id, head: f.head})
		return true
	})
	c.open -= len(retired)
	c.mu.Unlock()
	for _, l := range retired {
		c.trail.resolver.resolve(l, reason)
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

// drain waits until no lane is in use, or ctx ends, and closes all that are free.
func (c *changeLanes) drain(ctx context.Context) error {
	c.mu.Lock()
	c.running = false
	c.mu.Unlock()
	var err error
	held := 0
	for held < cap(c.slots) && err == nil {
		select {
		case c.slots <- struct{}{}:
			held++
		case <-ctx.Done():
			err = errors.New("audit: changes are still in flight")
		}
	}
	c.closeIdle(c.trail.cfg.Clock().Add(time.Hour))
	for range held {
		<-c.slots
	}
	return err
}
