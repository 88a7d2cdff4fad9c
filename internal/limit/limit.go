// Package limit bounds how long work may take, at no cost to work that never waits.
//
// A context with a deadline of the standard library starts a timer and registers with its parent whether or not anybody ever
// waits for it. Most requests here never do: they are answered from memory and one round trip that has a limit of its own.
//
// Invariants:
//   - I4: what waits on a limited context is released when its time is up or its parent ends, whichever is first.
package limit

import (
	"context"
	"sync"
	"time"
)

// Context is its parent with a deadline. Until somebody waits for it (Done, or a context made from it) it is no more than a
// note of the time.
type Context struct {
	parent   context.Context //nolint:containedctx // it is a context itself
	deadline time.Time
	now      func() time.Time

	mu     sync.Mutex
	ended  error           // what Err says after End
	inner  context.Context //nolint:containedctx // what is waited for
	cancel context.CancelFunc
}

// New gives parent with a deadline after d, as now tells the time. Whoever made it calls End.
func New(parent context.Context, d time.Duration, now func() time.Time) *Context {
	return &Context{parent: parent, deadline: now().Add(d), now: now}
}

// End ends the context: Err then says context.Canceled, if it said nothing yet. It is safe twice.
func (c *Context) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = context.Canceled
	}
	if c.cancel != nil {
		c.cancel()
	}
}

// Deadline is the parent's if that is earlier.
func (c *Context) Deadline() (time.Time, bool) {
	if outer, ok := c.parent.Deadline(); ok && outer.Before(c.deadline) {
		return outer, true
	}
	return c.deadline, true
}

// Done starts the timer.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		c.inner, c.cancel = context.WithDeadline(c.parent, c.deadline)
		if c.ended != nil {
			c.cancel()
		}
	}
	return c.inner.Done()
}

// Err says why the context ended, or nil.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended != nil: // what was said once stays so
	case c.inner != nil:
		c.ended = c.inner.Err()
	case c.parent.Err() != nil:
		c.ended = c.parent.Err()
	case !c.now().Before(c.deadline):
		c.ended = context.DeadlineExceeded
	}
	return c.ended
}

// Value is the parent's.
func (c *Context) Value(key any) any { return c.parent.Value(key) }
