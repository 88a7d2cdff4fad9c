package vault

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
)

// identity is who the gate found the caller to be. Nobody changes it.
type identity struct {
	actor   string
	rules   access.Rules
	tokenID uuid.UUID  // zero without a valid token
	expires *time.Time // of the token; nil is never
	epoch   int64      // of the grants that the rules are of; 0 without a valid token
}

func (i *identity) hasToken() bool { return i.tokenID != uuid.Nil }

// withoutRights is the same actor for the record of a refusal.
func (i *identity) withoutRights() *identity { return &identity{actor: i.actor} }

// anonymous is a caller without a valid token.
func anonymous(c Caller) *identity {
	if c.Address.IsValid() {
		return &identity{actor: string(c.Address.AppendTo(append(make([]byte, 0, 64), "address:"...)))}
	}
	return &identity{actor: "anonymous"}
}

// identify finds out whose token this is. Without a token the caller is only an address. fresh asks the database whatever is
// kept; kept tells that it was not asked.
func (v *Vault) identify(ctx context.Context, c Caller, fresh bool) (who *identity, kept bool, err error) {
	if c.Token.IsZero() {
		return anonymous(c), false, nil
	}
	fingerprint, err := access.ParseToken(c.Token.Reveal())
	if err != nil {
		return anonymous(c), false, invalidToken("the token is malformed")
	}
	var set *authority
	if !fresh {
		set = v.grants.current(v.trail.Epoch(), v.cfg.Clock())
		kept = set != nil
	}
	if set == nil {
		if set, err = v.grants.ask(ctx); err != nil {
			return anonymous(c), false, err
		}
	}
	at := v.trail.DatabaseTime()
	who, err = set.bearer(fingerprint, at)
	if who == nil {
		who = anonymous(c)
	}
	if err == nil {
		v.uses.touch(who.tokenID, at)
	}
	return who, kept, err
}

func invalidToken(reason string) error {
	return fault.Wrap(fault.Unauthenticated, errors.New(reason), "the token is not valid")
}
