package vault

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

const (
	// markPeriod is how often, while requests come, the tables are looked at although the epoch hasn't moved: what somebody writes
	// past the vault moves none. It has no effect on what is kept, and is to be noticed.
	markPeriod = time.Second
	// markShare bounds what looking costs: at most this part of the time, however many rows there are.
	markShare = 100
)

// grants keeps the whole set of grants, verified and parsed, so that a request looks nothing up. A set that is kept allows nothing
// by itself: the round trip that commits an operation's records returns the grants' epoch, and an answer that was allowed
// under another one is withheld. Nor does it refuse anybody by itself: before that, the database is asked for its epoch.
type grants struct {
	vault *Vault
	view  atomic.Pointer[grantsView]

	mu      sync.Mutex
	next    *flight // what the next look answers
	running bool
	stopped bool
	flights sync.WaitGroup

	highest atomic.Int64 // the highest epoch that was ever verified or made here
}

// raise notes an epoch that was verified, or made by a change that is committed: what is older is never taken again.
func (g *grants) raise(epoch int64) {
	for known := g.highest.Load(); known < epoch; known = g.highest.Load() {
		if g.highest.CompareAndSwap(known, epoch) {
			return
		}
	}
}

// grantsView is what the last look found. Nobody changes it.
type grantsView struct {
	set *authority // the last one that verified
	// refused says why nothing is granted: the database has another epoch's grants, and they don't verify.
	refused error
	// damage says that the tables aren't what the kept set was read from, without any other epoch. It has no effect but the alarm.
	damage  error
	bad     postgres.GrantsMark // what refused or damage were found in
	suspect bool                // somebody was told of another epoch
	lookAt  time.Time           // when the tables are to be looked at again
}

// flight is one look at the database, for everyone who waits for it. It begins after they came.
type flight struct {
	whole bool // look at the tables, not only at the epoch
	view  *grantsView
	err   error
	done  chan struct{}
}

func newGrants(v *Vault) *grants {
	g := &grants{vault: v}
	g.view.Store(&grantsView{})
	return g
}

// current gives the set that is kept if it is of that epoch or a later one, else nil. Once it is time to look at the tables again,
// one request has that begin, and waits for nothing.
func (g *grants) current(epoch int64, now time.Time) *authority {
	view := g.view.Load()
	if view.set == nil || view.refused != nil || view.suspect || view.set.epoch < epoch || view.set.epoch < g.highest.Load() {
		return nil
	}
	if !now.Before(view.lookAt) {
		later := *view
		later.lookAt = now.Add(markPeriod)
		if g.view.CompareAndSwap(view, &later) {
			g.join(true)
		}
	}
	return view.set
}

// doubt makes the next request ask the database.
func (g *grants) doubt() {
	for view := g.view.Load(); !view.suspect; view = g.view.Load() {
		doubted := *view
		doubted.suspect = true
		if g.view.CompareAndSwap(view, &doubted) {
			return
		}
	}
}

// ask asks the database for its epoch, and reads the grants if it isn't that of the set which is kept. What comes back was so after the
// call.
func (g *grants) ask(ctx context.Context) (*authority, error) {
	view, err := g.wait(ctx, g.join(false))
	if err != nil {
		return nil, err
	}
	return view.set, nil
}

// whole is ask for who is to be told what the tables hold: they must be as they were read, row by row.
func (g *grants) whole(ctx context.Context) (*authority, error) {
	view, err := g.wait(ctx, g.join(true))
	if err != nil {
		return nil, err
	}
	return view.set, view.damage
}

func (g *grants) wait(ctx context.Context, one *flight) (*grantsView, error) {
	if one == nil {
		return nil, fault.Wrap(fault.Unavailable, errLookupsStopped, "")
	}
	select {
	case <-one.done:
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Unavailable, context.Cause(ctx), "")
	}
	if one.err != nil {
		return nil, one.err
	}
	if one.view.refused != nil {
		return nil, fault.Wrap(fault.Unavailable, one.view.refused, "")
	}
	return one.view, nil
}

// join takes part in the next look; nil means that there are no more.
func (g *grants) join(whole bool) *flight {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return nil
	}
	if g.next == nil {
		g.next = &flight{done: make(chan struct{})}
	}
	g.next.whole = g.next.whole || whole
	if !g.running {
		g.running = true
		g.flights.Add(1)
		go g.fly()
	}
	return g.next
}

// fly looks as long as somebody waits. A client that leaves doesn't end it: others wait, too.
func (g *grants) fly() {
	defer g.flights.Done()
	for {
		g.mu.Lock()
		one := g.next
		g.next, g.running = nil, one != nil
		g.mu.Unlock()
		if one == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), workLimit)
		one.view, one.err = g.look(ctx, one.whole)
		cancel()
		close(one.done)
	}
}

// stop refuses looks from now on, and waits for the one under way as long as ctx lets it. That one ends by itself, by its own limit.
func (g *grants) stop(ctx context.Context) error {
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		g.flights.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a look at the grants is still under way: %w", context.Cause(ctx))
	}
}
