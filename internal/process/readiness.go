package process

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

const (
	// readinessAge is for how long an answer serves everybody who asks: anyone may ask, and each check costs a round
	// trip to the database. That it isn't ready is soon outdated while a process starts.
	readinessAge = time.Second
	unreadyAge   = 100 * time.Millisecond
	// readinessTimeout bounds one check, however long its first asker waits.
	readinessTimeout = 2 * time.Second
)

// ErrNotServing is why a process isn't ready that has not started, or that stops.
var ErrNotServing = errors.New("the process is starting or stopping")

// Readiness tells whether a process would serve a request. It starts out not ready. Its methods may be called from any
// number of goroutines.
type Readiness struct {
	check func(context.Context) error
	clock func() time.Time
	log   *slog.Logger

	mu      sync.Mutex
	serving bool
	known   bool // err is of a check made at checked
	err     error
	checked time.Time
	running chan struct{} // closed when the check under way is over; nil if there is none
}

// NewReadiness returns a readiness that rests on check while the process serves. It asks check at most once a second, ten
// times while the answer is no, and never twice at the same time, and logs when the answer changes. clock gives the time, of which only differences are
// used; nil means time.Now.
func NewReadiness(check func(context.Context) error, clock func() time.Time, log *slog.Logger) *Readiness {
	if clock == nil {
		clock = time.Now
	}
	return &Readiness{check: check, clock: clock, log: log}
}

// Serve says that the process takes requests.
func (r *Readiness) Serve() { r.set(true) }

// Withdraw says that the process takes requests no more, whatever the check says.
func (r *Readiness) Withdraw() { r.set(false) }

func (r *Readiness) set(serving bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serving = serving
}

// Ready returns nil if a request would be served, an error of at most a second ago if it would not, and ctx's error if
// that ends first. It may be given to several listeners.
func (r *Readiness) Ready(ctx context.Context) error {
	for {
		r.mu.Lock()
		switch {
		case !r.serving:
			r.mu.Unlock()
			return ErrNotServing
		case r.running == nil && r.isFresh():
			err := r.err
			r.mu.Unlock()
			return err
		case r.running == nil:
			r.running = make(chan struct{})
			// Not the asker's context: others wait for the same answer, and an asker in a hurry would spoil it for them.
			go r.ask(context.WithoutCancel(ctx))
		}
		running := r.running
		r.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// isFresh tells whether the last answer still serves. The caller holds the lock.
func (r *Readiness) isFresh() bool {
	age := readinessAge
	if r.err != nil {
		age = unreadyAge
	}
	return r.known && r.clock().Sub(r.checked) < age
}

// ask makes one check and keeps its answer.
func (r *Readiness) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readinessTimeout)
	defer cancel()
	err := r.check(ctx)

	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil && (!r.known || r.err == nil):
		r.log.Warn("not ready", "error", err)
	case err == nil && r.known && r.err != nil:
		r.log.Info("ready again")
	}
	r.known, r.err, r.checked = true, err, r.clock()
	close(r.running)
	r.running = nil
}
