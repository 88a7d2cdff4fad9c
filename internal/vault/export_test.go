package vault

import (
	"context"
	"time"
)

// RewrapTurns gives the turns of the loop that adds wrappings one by one, and what ends it.
func (v *Vault) RewrapTurns() (turn func(context.Context) time.Duration, release func(context.Context)) {
	r := &rewrapping{vault: v}
	return r.turn, r.release
}
