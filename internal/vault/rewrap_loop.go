package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

const (
	// One process at a time looks through the versions, once an hour, again soon after a look that had to stop, and when an operator asks for it. The
	// others ask now and then whether it still does.
	rewrapEvery = time.Hour
	rewrapAsk   = 5 * time.Minute
	rewrapRetry = time.Minute
	rewrapPoll  = 15 * time.Second
	// rewrapTell is how often it is written down how far a look has come.
	rewrapTell = 5 * time.Second
	// rewrapRate is how many data keys are wrapped again in a second, unless the configuration says another number.
	rewrapRate = 20
)

// rewraps is the work of looking through all versions from time to time. Processes that do so at once would only repeat each other's
// work, so the first keeps it to itself until it ends or fails.
type rewraps struct {
	r     *Rotations
	alone *postgres.Alone // nil while another process does it
}

func (r *Rotations) rewrapLoop(ctx context.Context) {
	w := &rewraps{r: r}
	defer func() { w.release(ctx) }()
	wait := time.Second + rand.N(rewrapPoll) //nolint:gosec // jitter, not a secret
	for w.sleep(ctx, wait) {
		wait = w.turn(ctx)
		wait += rand.N(wait / 4) //nolint:gosec // jitter, not a secret
	}
}

// sleep waits for d, or until an operator asks for a look and this process is the one that makes it. false means that ctx ended.
func (w *rewraps) sleep(ctx context.Context, d time.Duration) bool {
	for ; d > rewrapPoll; d -= rewrapPoll {
		if !pause(ctx, rewrapPoll) {
			return false
		}
		if w.alone == nil {
			continue
		}
		if order, err := w.r.v.db.RewrapOrder(ctx); err == nil && order.Due {
			return true
		}
	}
	return pause(ctx, d)
}

// turn looks through all versions if that is this process's work, and gives the pause until the next turn.
func (w *rewraps) turn(ctx context.Context) time.Duration {
	v := w.r.v
	if w.alone != nil && !w.alone.Held(ctx) {
		w.release(ctx)
	}
	if w.alone == nil {
		alone, err := v.db.Alone(ctx, "rewrap")
		switch {
		case errors.Is(err, postgres.ErrTaken):
			w.r.house.stillLack(0, true) // the other one tells
			return rewrapAsk
		case err != nil:
			v.log.Debug("data keys were not looked through", "error", err)
			return rewrapRetry
		}
		w.alone = alone
	}
	did, err := w.r.Rewrap(ctx)
	if did.Done > 0 {
		v.log.Info("data keys were wrapped again", "versions", did.Done, "failed", did.Failed)
	}
	if err == nil {
		return rewrapEvery
	}
	if ctx.Err() == nil {
		v.log.Warn("data keys are still to be wrapped again: looking through them stopped", "versions", did.Found-did.Done, "error", err)
	}
	w.release(ctx) // what stands in this process's way may not stand in another's
	return rewrapRetry
}

// release leaves the work to others.
func (w *rewraps) release(ctx context.Context) {
	if w.alone != nil {
		w.alone.Release(ctx)
		w.alone = nil
	}
}

// rewrapNote is how far a look has come, as it is told in the database.
type rewrapNote struct {
	again time.Time // what was wrapped before is to be wrapped again
	told  time.Time // on our clock
}

// begin asks what there is to know before a look, and writes down that it begins.
func (l *rewrapLook) begin(ctx context.Context) error {
	v := l.r.v
	order, err := v.db.RewrapOrder(ctx)
	switch {
	case postgres.IsNotFound(err): // somebody removed the row: nobody asked for anything, and nothing can be told
		v.log.Warn("vault.rewrap_state has no row: how wrapping data keys again stands can't be told")
		order.AgainBefore = time.Unix(0, 0)
	case err != nil:
		return postgres.Fault(err)
	}
	l.note = rewrapNote{again: order.AgainBefore, told: v.cfg.Clock()}
	if err := v.cfg.Rewrapper.Prepare(ctx); err != nil {
		return keeperFault("asking which key is the one that data keys are to be under", err)
	}
	blind := v.cfg.Rewrapper.LearnRotations(ctx)
	l.r.house.tellBlind(v.log, blind)
	estimate, err := v.db.CountWrappedElsewhere(ctx, db.CountWrappedElsewhereParams{KmsKeyID: v.keeper.KeyID(), Before: l.note.again})
	if err != nil {
		return postgres.Fault(err)
	}
	worker := v.trail.Actor()
	_, err = v.db.BeginRewrap(ctx, db.BeginRewrapParams{Worker: &worker, Found: estimate, Note: textOf(blind)})
	return postgres.Fault(err)
}

// progress writes down how far the look has come, now and then. What can't be is told later.
func (l *rewrapLook) progress(ctx context.Context) {
	v := l.r.v
	now := v.cfg.Clock()
	if now.Sub(l.note.told) < rewrapTell {
		return
	}
	l.note.told = now
	worker := v.trail.Actor()
	_, err := v.db.NoteRewrap(ctx, db.NoteRewrapParams{Worker: &worker, Found: l.did.Found, Done: l.did.Done, Failed: l.did.Failed})
	if err != nil {
		v.log.Debug("how far wrapping data keys again has come was not written down", "error", err)
	}
}

// end writes down how the look ended.
func (l *rewrapLook) end(ctx context.Context, err error) {
	v := l.r.v
	l.r.house.stillLack(l.did.Lack, err == nil)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	worker, state := v.trail.Actor(), rewrapDone
	if err != nil {
		state = rewrapFailed
	}
	_, failed := v.db.EndRewrap(ctx, db.EndRewrapParams{
		Worker: &worker, State: state, Found: l.did.Found, Done: l.did.Done, Failed: l.did.Failed, Error: textOf(err),
	})
	if failed != nil {
		v.log.Debug("how wrapping data keys again ended was not written down", "error", failed)
	}
}

// How the last look stands.
const (
	rewrapDone   = "done"
	rewrapFailed = "failed"
)

// textOf is what an error says, as much of it as a row takes: for operators, and without any value.
func textOf(err error) *string {
	if err == nil {
		return nil
	}
	text := bounded(err.Error())
	return &text
}

// pace bounds how many data keys are wrapped again in a second.
type pace struct {
	every time.Duration
	clock func() time.Time
	rest  func(context.Context, time.Duration) bool

	mu   sync.Mutex
	next time.Time
}

func newPace(perSecond int, clock func() time.Time) *pace {
	if perSecond <= 0 {
		perSecond = rewrapRate
	}
	return &pace{every: time.Second / time.Duration(perSecond), clock: clock, rest: pause}
}

// wait returns when it is the turn of n more; false means that ctx ended first.
func (p *pace) wait(ctx context.Context, n int) bool {
	p.mu.Lock()
	now := p.clock()
	if p.next.Before(now) {
		p.next = now
	}
	turn := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(n) * p.every)
	p.mu.Unlock()
	if turn <= 0 {
		return ctx.Err() == nil
	}
	return p.rest(ctx, turn)
}
