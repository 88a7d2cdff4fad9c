package vault

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// RewrapTurns gives the turns of the loop that wraps data keys again one by one, and what ends it.
func (r *Rotations) RewrapTurns() (turn func(context.Context) time.Duration, release func(context.Context)) {
	w := &rewraps{r: r}
	return w.turn, w.release
}

// PurgeTurns gives the turns of the loop that removes versions whose grace has ended one by one, and what ends it.
func (r *Rotations) PurgeTurns() (turn func(context.Context) time.Duration, release func(context.Context)) {
	p := r.newPurges()
	return p.turn, p.release
}

// OnRest has the waits of the pace told in the place of being waited for.
func (r *Rotations) OnRest(rest func(time.Duration)) {
	r.pace.rest = func(ctx context.Context, d time.Duration) bool {
		rest(d)
		return ctx.Err() == nil
	}
}

// PurgeSecret removes the ended versions of one secret, as the loop has it done.
func (r *Rotations) PurgeSecret(ctx context.Context, id uuid.UUID, name string) (int, error) {
	return r.purgeSecret(ctx, id, name)
}

// PurgeAgain is how long a secret that couldn't be purged is left alone at first.
const PurgeAgain = purgeAgain
