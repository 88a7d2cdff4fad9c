package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// errRaced means that the secret moved between the look at it and the transaction. What was sealed for the old place can't be
// stored in the new one, so everything starts over.
var errRaced = errors.New("the secret was changed meanwhile")

// maxRaces bounds how often a change starts over before the caller is told.
const maxRaces = 12

// retryRaced runs try until it doesn't lose a race. KMS calls happen outside transactions, so a change is optimistic: it looks,
// seals, and then compares under the row's lock.
func retryRaced(ctx context.Context, try func() error) error {
	for race := 0; ; race++ {
		err := try()
		if !errors.Is(err, errRaced) {
			return err
		}
		if race == maxRaces {
			return fault.Wrap(fault.Conflict, err, "others keep changing this secret: try again").WithCode("contended")
		}
		pause := time.NewTimer(time.Duration(rand.Int64N(int64(race+1)*int64(2*time.Millisecond)) + 1)) //nolint:gosec // jitter, not a secret
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
}

// base is the state that a change was prepared on.
type base struct {
	secretID uuid.UUID
	version  int64 // the current one
	uid      uuid.UUID
	next     int64 // what a new one is sealed as
}

func baseOf(s *sealedSecret) (base, error) {
	current := s.current()
	if current == nil {
		return base{}, errNotCurrent
	}
	return base{secretID: s.ID, version: current.Version, uid: current.UID, next: s.Next}, nil
}

// holds tells whether the precondition allows a change of the version that is current.
func (p Precondition) holds(version int64, uid uuid.UUID) error {
	if (len(p.Tags) == 0 && !p.Any) || p.Any || secret.MatchesStrong(p.Tags, secret.ETag(version, uid)) {
		return nil
	}
	return fault.New(fault.PreconditionFailed, "the secret has changed since: read it again")
}
