package vault

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
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
		issued := &IssuedToken{Name: name, Role: role, Token: text}
		err = a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
			row, err := lockRole(ctx, tx, role)
			if err != nil {
				return err
			}
			if err := tx.DeleteDeadToken(ctx, name); err != nil {
				return err
			}
			return insertToken(ctx, tx, v.cfg, issued, row.ID, fingerprint, r.ExpiresInSecs)
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

func insertToken(ctx context.Context, tx *postgres.Tx, cfg Config, issued *IssuedToken, roleID uuid.UUID, fingerprint access.Fingerprint, expiresInSecs *int64) error {
	id, err := uuid.NewRandomFromReader(cfg.Random)
	if err != nil {
		return fault.Wrap(fault.Internal, fmt.Errorf("making a token id: %w", err), "")
	}
	params := db.InsertTokenParams{ID: id, Name: issued.Name, RoleID: roleID, TokenSha256: fingerprint[:]}
	if expiresInSecs != nil {
		secs := float64(*expiresInSecs)
		params.ExpiresInSecs = &secs
	}
	row, err := tx.InsertToken(ctx, params)
	if postgres.IsUniqueViolation(err) {
		return fault.New(fault.Conflict, "a token of this name exists already").WithCode("already_exists")
	}
	issued.CreatedAt, issued.ExpiresAt = row.CreatedAt, row.ExpiresAt
	return err
}

// Tokens lists all tokens, revoked and expired ones too.
func (v *Vault) Tokens(ctx context.Context, c Caller) ([]Token, error) {
	op := operation{action: ActionTokenList, rule: needsAdmin}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) ([]Token, error) {
		rows, err := v.db.Tokens(ctx)
		if err != nil {
			return nil, err
		}
		tokens := make([]Token, len(rows))
		for i, row := range rows {
			tokens[i] = Token{
				Name: row.Name, Role: row.Role, CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt,
				RevokedAt: row.RevokedAt, LastUsedAt: row.LastUsedAt,
			}
		}
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
			if err := tx.BumpEpoch(ctx); err != nil {
				return err
			}
			row, err := tx.LockToken(ctx, parsed)
			if postgres.IsNotFound(err) {
				return fault.New(fault.NotFound, "there is no such token")
			}
			if err != nil {
				return err
			}
			if row.IsAdmin && row.RevokedAt == nil {
				others, err := tx.CountOtherLiveAdminTokens(ctx, row.ID)
				if err != nil {
					return err
				}
				if others == 0 {
					return fault.New(fault.Conflict, "this is the last live admin token: issue another one first").WithCode("last_admin_token")
				}
			}
			_, err = tx.RevokeToken(ctx, row.ID)
			return err
		})
	})
	return err
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
