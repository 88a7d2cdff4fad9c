package rotation

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/target"
	"github.com/sealkeep/sealkeep/internal/vault"
)

const (
	// A failed attempt is followed by a pause of full jitter: at most firstPause after the first, twice as much after each, and mostPause.
	firstPause = 5 * time.Second
	mostPause  = 15 * time.Minute
	// awayPause is the most that a job waits while what the vault itself rests on is away, and half of it the least. Its attempts don't count.
	awayPause = 20 * time.Second
)

// Targets does at a target what a rotation asks of it. Its errors are those of package target.
type Targets interface {
	// Apply has the target take the delivery's new value.
	Apply(ctx context.Context, d *vault.Delivery) error
	// Test proves that it did.
	Test(ctx context.Context, d *vault.Delivery) error
	// Try tells whether it still takes it; and where it refuses to, whether it takes one of the others.
	Try(ctx context.Context, d *vault.Delivery) (others bool, err error)
}

// do takes a job as far as it gets.
func (r *Rotator) do(t *task) {
	defer r.over(t)
	began := r.cfg.Clock()
	err := r.advance(t.ctx, &t.job)
	outcome := r.conclude(t, err)
	r.metrics.done(outcome, r.cfg.Clock().Sub(began))
	level := r.log.DebugContext
	if outcome == outcomeDead {
		level = r.log.ErrorContext
	} else if err != nil && outcome != outcomeWaiting {
		level = r.log.WarnContext
	}
	level(t.ctx, "rotation job", "job", t.job.ID, "secret", t.job.Secret, "reason", t.job.Reason, "attempt", t.job.Attempt, "outcome", outcome, "error", err)
}

// advance makes the steps of a job, each durable: whoever claims the job next begins where this one stopped.
func (r *Rotator) advance(ctx context.Context, j *vault.Job) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if !j.Targeted {
		return r.vault.Rotate(ctx, j)
	}
	if j.Reason != vault.ReasonDrift {
		if over, err := r.vault.Prepare(ctx, j); over || err != nil {
			return err
		}
	}
	d, err := r.vault.Begin(ctx, j)
	if err != nil {
		return err
	}
	if d == nil {
		return nil // the job is over
	}
	defer d.Release()
	if j.Reason == vault.ReasonDrift {
		// Whoever made this job may have made it up, and what drifted may be back.
		if others, err := r.targets.Try(ctx, d); err == nil || !others {
			return r.vault.Finish(ctx, j, false)
		}
	}
	if err := r.targets.Apply(ctx, d); err != nil {
		return err
	}
	if err := r.targets.Test(ctx, d); err != nil {
		return err
	}
	if j.Reason == vault.ReasonDrift {
		return r.vault.Finish(ctx, j, true)
	}
	return r.vault.Promote(ctx, j, d)
}

// What became of an attempt, for the metrics.
const (
	outcomeDone    = "done"
	outcomeLost    = "lost"    // another rotator has the job, or will
	outcomeWaiting = "waiting" // until a version's grace has passed
	outcomeAway    = "away"    // the database or the key management service
	outcomeFailed  = "failed"
	outcomeDead    = "dead"
)

// conclude says to the database what became of an attempt.
func (r *Rotator) conclude(t *task, err error) string {
	j := &t.job
	var wait *vault.WaitError
	switch cause := context.Cause(t.ctx); {
	case err == nil:
		return outcomeDone
	case cause != nil, errors.Is(err, vault.ErrClaimLost):
		return outcomeLost // a lease that lapses, or lapsed, is claimed anew
	case errors.As(err, &wait):
		return r.told(t, outcomeWaiting, r.vault.Postpone(t.ctx, j, wait.Until))
	case errors.Is(err, vault.ErrRetargeted):
		return r.told(t, outcomeWaiting, r.vault.Later(t.ctx, j, 0))
	}
	f, away := failureOf(err)
	if away {
		return r.told(t, outcomeAway, r.vault.Later(t.ctx, j, awayPause/2+rand.N(awayPause/2))) //nolint:gosec // jitter, not a secret
	}
	// A value that was the current one all along isn't given up, and what refuses it won't take it the next time.
	if f.Abandon && j.Reason == vault.ReasonDrift {
		f.Abandon, f.Dead = false, true
	}
	r.metrics.failed(f.Class)
	f.Pause = backoff(j.Attempt, firstPause, mostPause)
	f.Dead = f.Dead || j.Attempt >= r.cfg.MaxAttempts
	outcome := outcomeFailed
	if f.Dead {
		outcome = outcomeDead
	}
	return r.told(t, outcome, r.vault.Fail(t.ctx, j, f))
}

// told gives the outcome if it could be written down. If not, the lease lapses, and the job is claimed anew.
func (r *Rotator) told(t *task, outcome string, err error) string {
	if err != nil {
		r.log.WarnContext(t.ctx, "rotator: what became of a job could not be written down", "job", t.job.ID, "outcome", outcome, "error", err)
		return outcomeLost
	}
	return outcome
}

// classInternal is the class of failures that are the vault's own, damage among them.
const classInternal = "internal"

// failureOf classes an error. away says that it is none of the target's.
func failureOf(err error) (f vault.Failure, away bool) {
	var refused *target.Error
	if errors.As(err, &refused) {
		class := target.ClassOf(err)
		return vault.Failure{
			Class: string(class), Message: refused.Message, Abandon: class == target.Policy, Dead: class == target.Permanent,
		}, false
	}
	_, _, message, _ := fault.Public(err)
	switch fault.KindOf(err) {
	case fault.Unavailable:
		return f, true
	case fault.Internal: // and what nobody knows
		return vault.Failure{Class: classInternal, Message: "the vault failed inside: its log and its integrity alarms say why"}, false
	case fault.Invalid:
		return vault.Failure{Class: string(target.Permanent), Message: message, Dead: true}, false
	default: // such as a secret that others keep changing
		return vault.Failure{Class: string(target.Transient), Message: message}, false
	}
}
