package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// maxTokenSecs bounds a token's life to ten years.
const maxTokenSecs = 10 * 365 * 24 * 60 * 60

// CreateToken issues a token. It is in the answer and nowhere else: the vault keeps a fingerprint. The name of a token that
// was revoked or has expired is free again.
func (v *Vault) CreateToken(ctx context.Context, c Caller, r TokenRequest) (*IssuedToken, error) {
	name, err := access.ParseEntityName(r.Name)
	if err != nil {
		return nil, err
	}
	role, err := access.ParseEntityName(r.Role)
	if err != nil {
		return nil, err
	}
	op := operation{action: ActionTokenCreate, rule: needsAdmin, detail: map[string]any{"token": name, "role": role}}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*IssuedToken, error) {
		if err := checkExpiry(r.ExpiresInSecs); err != nil {
			return nil, err
		}
		text, fingerprint, err := access.NewToken(v.cfg.Random)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, fmt.Errorf("making a token: %w", err), "")
		}
		id, err := uuid.NewRandomFromReader(v.cfg.Random)
		if err != nil {
			text.Release()
			return nil, fault.Wrap(fault.Internal, fmt.Errorf("making a token id: %w", err), "")
		}
		issued := &IssuedToken{Name: name, Role: role, Token: text}
		err = a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
			return a.regrant(ctx, tx, func(g *regrant) error {
				held := g.set.role(role)
				if held == nil {
					return errNoRole
				}
				token, err := g.insertToken(ctx, issued, id, held, fingerprint, r.ExpiresInSecs)
				if err != nil {
					return err
				}
				g.note(a, token, nil)
				return nil
			})
		})
		return issued, err
	})
}

func checkExpiry(secs *int64) error {
	if secs != nil && (*secs < 1 || *secs > maxTokenSecs) {
		return fault.Newf(fault.Invalid, "expires_in_secs is 1 to %d", maxTokenSecs)
	}
	return nil
}

// Tokens lists all tokens, revoked and expired ones too.
func (v *Vault) Tokens(ctx context.Context, c Caller) ([]Token, error) {
	op := operation{action: ActionTokenList, rule: needsAdmin}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) ([]Token, error) {
		set, err := a.grants(ctx)
		if err != nil {
			return nil, err
		}
		uses, err := v.db.TokenUses(ctx)
		if err != nil {
			return nil, err
		}
		used := make(map[uuid.UUID]time.Time, len(uses))
		for _, use := range uses {
			used[use.TokenID] = use.LastUsedAt
		}
		tokens := make([]Token, 0, len(set.tokens))
		for _, t := range set.tokens {
			one := Token{Name: t.Name, Role: t.role.Name, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, RevokedAt: t.RevokedAt}
			if at, ok := used[t.ID]; ok {
				one.LastUsedAt = &at
			}
			tokens = append(tokens, one)
		}
		slices.SortFunc(tokens, func(a, b Token) int { return strings.Compare(a.Name, b.Name) })
		a.note("items", len(tokens))
		return tokens, nil
	})
}

// RevokeToken ends a token for good. The last live admin token stays: without it nobody could issue another.
func (v *Vault) RevokeToken(ctx context.Context, c Caller, name string) error {
	parsed, err := access.ParseEntityName(name)
	if err != nil {
		return err
	}
	op := operation{action: ActionTokenRevoke, rule: needsAdmin, detail: map[string]any{"token": parsed}}
	_, err = pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (struct{}, error) {
		return struct{}{}, a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
			return a.regrant(ctx, tx, func(g *regrant) error {
				token := g.set.token(parsed)
				switch {
				case token == nil:
					return fault.New(fault.NotFound, "there is no such token")
				case token.RevokedAt != nil:
					g.note(a, token, nil)
					return nil
				case token.role.IsAdmin && !g.otherAdmin(token):
					return fault.New(fault.Conflict, "this is the last live admin token: issue another one first").WithCode("last_admin_token")
				}
				g.note(a, token, nil)
				return g.revoke(ctx, token)
			})
		})
	})
	return err
}

// otherAdmin tells whether another admin token works.
func (g *regrant) otherAdmin(than *heldToken) bool {
	for _, t := range g.set.tokens {
		if t.ID != than.ID && t.role.IsAdmin && t.live(g.now()) {
			return true
		}
	}
	return false
}

// tokenUses remembers when tokens were last used until housekeeping writes it down: an update per request would cost more
// than the request.
type tokenUses struct {
	mu   sync.Mutex
	seen map[uuid.UUID]time.Time
}

func (u *tokenUses) touch(id uuid.UUID, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen[id] = at
}

func (u *tokenUses) take() map[uuid.UUID]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	seen := u.seen
	u.seen = map[uuid.UUID]time.Time{}
	return seen
}
