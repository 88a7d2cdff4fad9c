package rotation

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sealkeep/sealkeep/internal/target"
	"github.com/sealkeep/sealkeep/internal/vault"
)

const (
	// probeBatch is how many tries one rotator has under way at once: a target that is away holds one up for as long as it is waited for.
	probeBatch = 8
	// probeAgain is how soon something is tried again that failed.
	probeAgain = time.Minute
	// probeLook is how often a rotator looks for tries that are due.
	probeLook = time.Second
	// webhookEvery is how often a webhook's receiver is asked.
	webhookEvery = 15 * time.Minute
	resultOK     = "ok"
)

// probes tries current values at their targets until ctx ends, so that one which a target no longer takes is noticed before an application
// notices.
func (r *Rotator) probes(ctx context.Context) {
	for trouble := 0; ; {
		wait := probeLook + rand.N(probeLook/4) //nolint:gosec // jitter, not a secret
		n, err := r.probe(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			trouble++
			wait = backoff(trouble, time.Second, r.cfg.Poll)
			r.log.Warn("rotator: targets could not be tried", "error", err)
		default:
			trouble = 0
			if n == probeBatch {
				wait = breath
			}
		}
		pause(ctx, wait)
	}
}

// probe tries what is due, and tells how much that was.
func (r *Rotator) probe(ctx context.Context) (int, error) {
	due, err := r.vault.Probes(ctx, probeBatch)
	if err != nil {
		return 0, err
	}
	var tries sync.WaitGroup
	for i := range due {
		tries.Go(func() { r.try(ctx, &due[i]) })
	}
	tries.Wait()
	return len(due), nil
}

// try tries one. What can't be told, whatever the reason, is tried again once the claim on it is over.
func (r *Rotator) try(ctx context.Context, p *vault.Probe) {
	d, err := r.vault.Look(ctx, p)
	if err != nil || d == nil {
		if err != nil && !errors.Is(err, context.Canceled) {
			r.log.Warn("rotator: a target could not be tried", "secret", p.Secret, "error", err)
		}
		return
	}
	defer d.Release()
	others, err := r.targets.Try(ctx, d)
	if ctx.Err() != nil {
		return
	}
	found := vault.Probed{OK: err == nil, Pause: every(d)}
	result := resultOK
	if err != nil {
		result = string(target.ClassOf(err))
		found.Class, found.Message = result, "the target could not be tried"
		var refused *target.Error
		if errors.As(err, &refused) {
			found.Message = refused.Message
		}
		found.Pause = min(found.Pause, probeAgain)
		found.Repair = others
		r.log.Warn("rotator: a target doesn't take the current value", "secret", p.Secret, "class", result, "repair", others, "error", err)
	}
	r.metrics.probes.WithLabelValues(result).Inc()
	if err := r.vault.Tell(ctx, p, d, found); err != nil && ctx.Err() == nil {
		r.log.Warn("rotator: what a try found could not be written down", "secret", p.Secret, "error", err)
	}
}

// every is how often a secret is tried, give or take a tenth.
func every(d *vault.Delivery) time.Duration {
	interval := webhookEvery
	if d.Target.Postgres != nil {
		interval = d.Target.Postgres.ProbeInterval()
	}
	return interval - interval/20 + rand.N(interval/10) //nolint:gosec // jitter, not a secret
}
