package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

const (
	// One process at a time removes versions: when the next one's grace ends, at least once in a minute, and never more often than once in a second.
	// The others ask now and then whether it still does.
	purgeLeast = time.Second
	purgeMost  = time.Minute
	purgeAsk   = 20 * time.Second
	purgeRetry = 5 * time.Second
	sweepEvery = time.Minute
	// purgePage is how many versions one statement finds, and purgeWorkers how many secrets are changed at a time.
	purgePage    = 200
	purgeWorkers = 4
	// purgeTrouble is after how many secrets in a row that couldn't be changed a pass ends: it isn't they that are to blame then.
	purgeTrouble = 20
	// A secret that couldn't be purged is tried again after purgeAgain, each time twice as long after, until it is purgeRarely.
	purgeAgain  = time.Minute
	purgeRarely = 6 * time.Hour
	maxPutOff   = 10_000
)

// purges is the work of removing versions whose grace has ended.
type purges struct {
	r     *Rotations
	alone *postgres.Alone // nil while another process does it
	swept time.Time       // on our clock

	mu     sync.Mutex
	putOff map[uuid.UUID]putOff
}

// putOff is a secret that couldn't be purged, and until when it is left alone. Each try is an alarm and a record if it is damaged.
type putOff struct {
	until time.Time
	pause time.Duration
}

func (r *Rotations) newPurges() *purges { return &purges{r: r, putOff: map[uuid.UUID]putOff{}} }

func (r *Rotations) purgeLoop(ctx context.Context) {
	p := r.newPurges()
	defer func() { p.release(ctx) }()
	wait := rand.N(purgeLeast) //nolint:gosec // jitter, not a secret
	for pause(ctx, wait) {
		wait = p.turn(ctx)
		wait += rand.N(wait/10 + time.Millisecond) //nolint:gosec // jitter, not a secret
	}
}

// turn removes what may go if that is this process's work, and gives the pause until the next turn.
func (p *purges) turn(ctx context.Context) time.Duration {
	v := p.r.v
	if p.alone != nil && !p.alone.Held(ctx) {
		p.release(ctx)
	}
	if p.alone == nil {
		alone, err := v.db.Alone(ctx, "purge")
		switch {
		case errors.Is(err, postgres.ErrTaken):
			p.r.house.ended.Set(0) // the other one tells
			return purgeAsk
		case err != nil:
			v.log.Debug("versions whose grace has ended were not looked for", "error", err)
			return purgeRetry
		}
		p.alone = alone
	}
	wait, err := p.pass(ctx)
	if err == nil {
		return max(wait, purgeLeast)
	}
	if ctx.Err() == nil {
		v.log.Warn("removing versions whose grace has ended stopped", "error", err)
	}
	p.release(ctx) // what stands in this process's way may not stand in another's
	return purgeRetry
}

func (p *purges) release(ctx context.Context) {
	if p.alone != nil {
		p.alone.Release(ctx)
		p.alone = nil
	}
}

// pass goes once through all versions that may go, and tells how long it is until the next one may.
func (p *purges) pass(ctx context.Context) (time.Duration, error) {
	v := p.r.v
	if now := v.cfg.Clock(); now.Sub(p.swept) >= sweepEvery {
		if err := p.r.sweep(ctx); err != nil {
			return 0, err
		}
		p.swept = now
	}
	removed := 0
	after := db.EndedVersionsParams{MaxRows: purgePage}
	for {
		page, err := v.db.EndedVersions(ctx, after)
		if err != nil {
			return 0, postgres.Fault(err)
		}
		n, err := p.page(ctx, page)
		removed += n
		if err != nil {
			return 0, err
		}
		if len(page) < purgePage {
			break
		}
		last := page[purgePage-1]
		after.AfterAt, after.AfterID, after.AfterVersion = last.ExpiresAt, last.SecretID, last.Version
	}
	if removed > 0 {
		v.log.Info("versions whose grace had ended were removed", "versions", removed)
	}
	total, err := v.db.EndedTotal(ctx)
	if err != nil {
		return 0, postgres.Fault(err)
	}
	p.r.house.ended.Set(float64(total))
	return p.r.untilExpiry(ctx)
}

// page removes what a page names, some secrets at a time.
func (p *purges) page(ctx context.Context, page []db.EndedVersionsRow) (removed int, err error) {
	todo := make(chan *db.EndedVersionsRow, len(page))
	named := map[uuid.UUID]bool{}
	for i := range page {
		if id := page[i].SecretID; !named[id] && !p.isPutOff(id) {
			named[id] = true
			todo <- &page[i]
		}
	}
	close(todo)
	var workers sync.WaitGroup
	var mu sync.Mutex
	trouble := 0
	for range purgeWorkers {
		workers.Go(func() {
			for row := range todo {
				n, failed := p.r.purgeSecret(ctx, row.SecretID, row.Name)
				if failed == nil {
					p.forget(row.SecretID)
				} else {
					p.postpone(ctx, row, failed)
				}
				mu.Lock()
				removed += n
				switch {
				case failed == nil:
					trouble = 0
				case fault.KindOf(failed) == fault.Unavailable:
					trouble++
				}
				stop := trouble >= purgeTrouble || ctx.Err() != nil
				if stop && err == nil {
					err = fmt.Errorf("secret %q, and others before: %w", row.Name, errors.Join(failed, ctx.Err()))
				}
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	workers.Wait()
	return removed, err
}

// postpone leaves a secret alone for a while.
func (p *purges) postpone(ctx context.Context, row *db.EndedVersionsRow, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.r.v.cfg.Clock()
	for id := range p.putOff {
		if len(p.putOff) < maxPutOff {
			break
		}
		delete(p.putOff, id) // any one: it is tried sooner than it would be
	}
	pause := min(max(purgeAgain, 2*p.putOff[row.SecretID].pause), purgeRarely)
	p.putOff[row.SecretID] = putOff{until: now.Add(pause), pause: pause}
	p.r.v.log.WarnContext(ctx, "a secret's ended versions could not be removed", "secret", row.Name, "again_in", pause.String(), "error", err)
}

func (p *purges) forget(id uuid.UUID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.putOff, id)
}

func (p *purges) isPutOff(id uuid.UUID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.r.v.cfg.Clock().Before(p.putOff[id].until)
}
