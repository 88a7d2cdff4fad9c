package vault

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

const (
	// maxGrantAge is how long a grant is used before it is read again although its epoch is still the current one: what
	// somebody changes past the vault raises no epoch.
	maxGrantAge = time.Second
	// maxGrants bounds the tokens whose grants are kept.
	maxGrants = 4096
)

// identity is who the gate found the caller to be. Nobody changes it.
type identity struct {
	actor   string
	rules   access.Rules
	tokenID uuid.UUID  // zero without a valid token
	expires *time.Time // of the token; nil is never
	epoch   int64      // of the grants that the rules were read at; 0 without a valid token
}

func (i *identity) hasToken() bool { return i.tokenID != uuid.Nil }

// grants keeps what tokens may do, parsed, so that a request doesn't look it up. A grant that is kept decides nothing by
// itself: the round trip that commits an operation's records returns the grants' epoch, and an answer that was allowed under
// another one is withheld.
type grants struct {
	mu      sync.RWMutex
	byToken map[access.Fingerprint]grant
}

type grant struct {
	who    *identity
	readAt time.Time // on our clock, before it was read
}

func newGrants() *grants { return &grants{byToken: map[access.Fingerprint]grant{}} }

// get gives a token's grant if it was read at that epoch or a later one. Once it is old, one request is told to read it
// again, and the others go on with it meanwhile.
func (g *grants) get(token access.Fingerprint, epoch int64, now time.Time) (*identity, bool) {
	g.mu.RLock()
	kept, ok := g.byToken[token]
	g.mu.RUnlock()
	switch {
	case !ok || kept.who.epoch < epoch:
		return nil, false
	case now.Sub(kept.readAt) < maxGrantAge:
		return kept.who, true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byToken[token].readAt.Equal(kept.readAt) {
		g.byToken[token] = grant{who: kept.who, readAt: now}
		return nil, false
	}
	return kept.who, true
}

func (g *grants) keep(token access.Fingerprint, one grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.byToken) >= maxGrants {
		clear(g.byToken) // they are read again in a moment
	}
	g.byToken[token] = one
}

func (g *grants) drop(token access.Fingerprint) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.byToken, token)
}

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
	now := v.cfg.Clock()
	if !fresh {
		who, kept = v.grants.get(fingerprint, v.trail.Epoch(), now)
	}
	if !kept {
		if who, err = v.readGrant(ctx, fingerprint); err != nil {
			v.grants.drop(fingerprint)
			if who == nil {
				who = anonymous(c)
			}
			return who, false, err
		}
		v.grants.keep(fingerprint, grant{who: who, readAt: now})
	}
	at := v.trail.DatabaseTime()
	if who.expires != nil && !at.Before(*who.expires) {
		return who.withoutRights(), kept, invalidToken("the token has expired")
	}
	v.uses.touch(who.tokenID, at)
	return who, kept, nil
}

// withoutRights is the same actor for the record of a refusal.
func (i *identity) withoutRights() *identity { return &identity{actor: i.actor} }

func invalidToken(reason string) error {
	return fault.Wrap(fault.Unauthenticated, errors.New(reason), "the token is not valid")
}

// readGrant reads a token's grant. With an error it may still tell who the actor is. A client that leaves doesn't end it: that
// would cost the connection.
func (v *Vault) readGrant(ctx context.Context, fingerprint access.Fingerprint) (*identity, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workLimit)
	defer cancel()
	row, err := v.db.Grant(ctx, fingerprint[:])
	if postgres.IsNotFound(err) {
		return nil, invalidToken("the token is unknown")
	}
	if err != nil {
		return nil, postgres.Fault(err)
	}
	var stored access.Fingerprint
	if copy(stored[:], row.TokenSha256) != len(stored) || !stored.Equal(fingerprint) {
		return nil, invalidToken("the token is unknown")
	}
	who := &identity{actor: "token:" + row.Name}
	switch {
	case row.RevokedAt != nil:
		return who, invalidToken("the token was revoked")
	case row.ExpiresAt != nil && !row.ReadAt.Before(*row.ExpiresAt):
		return who, invalidToken("the token has expired")
	}
	permissions := make([]access.Permission, 0, len(row.Actions))
	for i, action := range row.Actions {
		if i < len(row.Paths) {
			permissions = append(permissions, access.Permission{Action: access.Action(action), Path: access.Pattern(row.Paths[i])})
		}
	}
	who.rules = access.NewRules(row.IsAdmin, permissions)
	who.tokenID, who.expires, who.epoch = row.ID, row.ExpiresAt, row.Epoch
	return who, nil
}
