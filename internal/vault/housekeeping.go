package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

const (
	// partitionDays is how far ahead audit partitions are made; there is a week to notice that they no longer are.
	partitionDays = 8
	flushUses     = 15 * time.Second
)

// Start begins to look up what is to be read, and housekeeping: audit partitions now and hourly, token uses every 15 s. It
// waits for none of it. Starting
// twice is the same as once; a stopped Vault stays stopped.
func (v *Vault) Start(ctx context.Context) error {
	if err := v.start(ctx, v.ensurePartitions, v.writeUses, v.lookups.run, v.followKeyring); err != nil {
		return err
	}
	v.grants.join(true) // so that what doesn't verify is told of before anybody asks
	return nil
}

// start begins loops that end with Stop.
func (v *Vault) start(ctx context.Context, loops ...func(context.Context)) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.stopped {
		return errors.New("vault: it was stopped")
	}
	if v.started {
		return nil
	}
	v.started = true
	ctx, v.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, loop := range loops {
		v.loops.Add(1)
		go func() {
			defer v.loops.Done()
			loop(ctx)
		}()
	}
	return nil
}

// Stop ends lookups and housekeeping: what is then to be read is refused. It is safe twice, and unstarted.
func (v *Vault) Stop(ctx context.Context) error {
	v.mu.Lock()
	cancel, again := v.cancel, v.stopped
	v.stopped = true
	v.mu.Unlock()
	v.lookups.stop()
	err := v.grants.stop(ctx)
	if cancel == nil || again {
		return err
	}
	cancel()
	v.loops.Wait()
	v.flushUses(ctx)
	return err
}

// ensurePartitions makes the coming days' audit partitions. Without one for today every answer would be refused, so failures
// are tried again soon and are loud.
func (v *Vault) ensurePartitions(ctx context.Context) {
	for {
		wait := time.Hour + rand.N(5*time.Minute) //nolint:gosec // jitter, not a secret
		if _, err := v.db.EnsurePartitions(ctx, partitionDays); err != nil {
			if ctx.Err() != nil {
				return
			}
			v.log.Error("audit partitions could not be made", "error", err)
			wait = 5*time.Second + rand.N(5*time.Second) //nolint:gosec // jitter, not a secret
		} else {
			v.partitionsMade(partitionDays)
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// partitionsMade notes until when there are partitions.
func (v *Vault) partitionsMade(days int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.partitionsUntil = v.cfg.Clock().Add(time.Duration(days) * 24 * time.Hour)
}

// partitionsAhead tells for how many days from now partitions are known to be there; it shrinks while none can be made.
func (v *Vault) partitionsAhead() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.partitionsUntil.IsZero() {
		return 0
	}
	return max(0, int(v.partitionsUntil.Sub(v.cfg.Clock()).Round(time.Hour)/(24*time.Hour)))
}

func (v *Vault) writeUses(ctx context.Context) {
	for pause(ctx, flushUses) {
		v.flushUses(ctx)
	}
}

// flushUses writes down when tokens were last used. What can't be written is forgotten: it is a convenience, and the audit
// trail knows every use.
func (v *Vault) flushUses(ctx context.Context) {
	seen := v.uses.take()
	if len(seen) == 0 {
		return
	}
	var params db.TouchTokensParams
	for id, at := range seen {
		params.TokenIds = append(params.TokenIds, id)
		params.UsedAt = append(params.UsedAt, at)
	}
	err := v.db.InTx(ctx, func(tx *postgres.Tx) error { return tx.TouchTokens(ctx, params) })
	if err != nil {
		v.log.Debug("token uses were not written down", "tokens", len(seen), "error", err)
	}
}

// pause waits for d; false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
