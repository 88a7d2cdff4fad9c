package audit

import (
	"errors"

	"github.com/sealkeep/sealkeep/internal/postgres"
)

// ErrStale means that what an answer was made from was changed, removed, or expired before its records were committed.
// They are committed: the answer must not leave, and a record that it was withheld must follow.
var ErrStale = errors.New("what the answer was made from is no longer current")

// Basis is what an answer rests on. The round that commits the answer's records validates it at one instant, so that
// nothing stale leaves however long it was kept.
type Basis struct {
	// Epoch is that of the grants which allowed the answer; 0 if it rests on none.
	Epoch int64
	// Connection is Trail.Connection as it was before the rows were read, or were found to be missing, so that what was read
	// from one server is never taken for what another has; 0 if nothing was read. An answer made of what was read on two
	// connections bears NoConnection.
	Connection int64
	// Held are the rows. They belong to the Trail until the answer.
	Held []postgres.Held
}

// NoConnection is one that no round runs on.
const NoConnection = -1

// judge tells whether the basis held in the round that returned result, where its rows begin at first.
func (b *Basis) judge(result *postgres.Appended, connection int64, first int) error {
	switch {
	case b.Epoch != 0 && b.Epoch != result.Epoch:
		return postgres.ErrGrantsMoved
	case b.Connection != 0 && b.Connection != connection, b.Connection == 0 && len(b.Held) > 0:
		return ErrStale
	}
	// Both are in order, so what lies before first was another's.
	for len(result.Stale) > 0 && result.Stale[0] < first {
		result.Stale = result.Stale[1:]
	}
	if len(result.Stale) > 0 && result.Stale[0] < first+len(b.Held) {
		return ErrStale
	}
	return nil
}
