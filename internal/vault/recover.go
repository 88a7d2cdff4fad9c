package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// Recovery asks for an admin token without one.
type Recovery struct {
	Name          string
	ExpiresInSecs *int64 // nil means never; 1 to ten years
	// DiscardGrants removes every role and token that is there, verified or not, instead of refusing when they don't verify. What
	// the vault knew of them is lost.
	DiscardGrants bool
}

// RecoverToken issues a token of the built-in admin role to whoever holds the database and the KMS, for when every admin
// token is lost. It is audited on a stream of its own.
func RecoverToken(ctx context.Context, database *postgres.DB, keeper Keeper, r Recovery, cfg Config) (*IssuedToken, error) {
	cfg.complete()
	parsed, err := access.ParseEntityName(r.Name)
	if err != nil {
		return nil, err
	}
	if err := checkExpiry(r.ExpiresInSecs); err != nil {
		return nil, err
	}
	vaultID, initialised, err := LoadIdentity(ctx, database)
	if err != nil {
		return nil, postgres.Fault(err)
	}
	if !initialised {
		return nil, fault.New(fault.Conflict, "the vault isn't initialised: run `sealkeep init`")
	}
	keyring, err := OpenKeyring(ctx, database, keeper, vaultID, integrity.PurposeAudit)
	if err != nil {
		return nil, err
	}
	defer keyring.Close()
	text, fingerprint, err := access.NewToken(cfg.Random)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, fmt.Errorf("making a token: %w", err), "")
	}
	issued := &IssuedToken{Name: parsed, Role: AdminRole, Token: text}
	err = database.InTx(ctx, func(tx *postgres.Tx) error {
		detail, err := recoverIn(ctx, tx, keyring, issued, fingerprint, r, cfg)
		if err != nil {
			return err
		}
		detail["token"], detail["role"] = issued.Name, issued.Role
		if r.DiscardGrants {
			detail["discarded_grants"] = true
		}
		return audit.AppendOffline(ctx, tx, keyring, vaultID, "token recover", cfg.Random,
			offlineRecord("token recover", ActionTokenRecover, string(encoded(detail))))
	})
	if err != nil {
		issued.Release()
		return nil, postgres.Fault(err)
	}
	return issued, nil
}

// recoverIn adds the token to grants that verify, or to none, and gives what its record says of it.
func recoverIn(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring, issued *IssuedToken, fingerprint access.Fingerprint, r Recovery, cfg Config) (facts map[string]any, err error) {
	// Who changes the keyring holds this row, too: a key that was replaced since it was read makes no more MACs.
	if _, err := tx.LockAuthzState(ctx); err != nil {
		return nil, err
	}
	roots, err := storedRoots(ctx, tx.Queries)
	if err != nil {
		return nil, err
	}
	if err := keys.CheckRoots(roots); err != nil {
		return nil, fault.Wrap(fault.Conflict, err, fault.Message(errKeysMoved))
	}
	if r.DiscardGrants {
		return discardGrants(ctx, tx, keys, issued, fingerprint, r, cfg)
	}
	id, err := newID(cfg, "token")
	if err != nil {
		return nil, err
	}
	err = changeGrants(ctx, tx, keys, func(g *regrant) error {
		role := g.set.role(AdminRole)
		if role == nil {
			return damaged("role", AdminRole, errors.New("it is missing"))
		}
		token, err := g.insertToken(ctx, issued, id, role, fingerprint, r.ExpiresInSecs)
		facts = g.facts(token, role)
		return err
	})
	if errors.Is(err, errDamaged) {
		return nil, fault.Wrap(fault.Conflict, err, "the roles and tokens in the database don't verify: somebody changed them past the vault. "+
			"Put the database back as it was, from a backup, or give up every role and token that is there with --discard-grants").WithCode("unverifiable")
	}
	return facts, err
}

// discardGrants makes the grants anew: the role admin and one token of it. It takes nothing over from rows that may be anybody's, the epoch
// neither: a lower one, which somebody wrote there, would let true grants of before be put back as newer ones. The time in microseconds is above
// all epochs that there ever were, as each change raises them by one.
func discardGrants(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring, issued *IssuedToken, fingerprint access.Fingerprint, r Recovery, cfg Config) (map[string]any, error) {
	for _, discard := range []func(context.Context) (int64, error){tx.DiscardTokens, tx.DiscardPermissions, tx.DiscardRoles} {
		if _, err := discard(ctx); err != nil {
			return nil, err
		}
	}
	server, err := tx.ServerIdentity(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking the server for its time: %w", err)
	}
	g := noGrants(tx, keys, server.ReadAt.UnixMicro(), server.ReadAt)
	if err := exactly(1)(tx.SetEpoch(ctx, g.epoch)); err != nil {
		return nil, err
	}
	facts, err := g.insertAdmin(ctx, issued, fingerprint, r.ExpiresInSecs, cfg)
	if err != nil {
		return nil, err
	}
	return facts, g.seal(ctx)
}

// noGrants begins a set of grants that is empty.
func noGrants(tx *postgres.Tx, keys *integrity.Keyring, epoch int64, at time.Time) *regrant {
	return &regrant{tx: tx, keys: keys, epoch: epoch, set: &authority{
		vaultID: keys.VaultID(), readAt: at, roles: map[uuid.UUID]*heldRole{}, tokens: map[uuid.UUID]*heldToken{},
	}}
}

// insertAdmin makes the built-in role and a token of it, and gives what a record says of them.
func (g *regrant) insertAdmin(ctx context.Context, issued *IssuedToken, fingerprint access.Fingerprint, expiresInSecs *int64, cfg Config) (map[string]any, error) {
	roleID, err := newID(cfg, "role")
	if err != nil {
		return nil, err
	}
	tokenID, err := newID(cfg, "token")
	if err != nil {
		return nil, err
	}
	role, err := g.insertRole(ctx, integrity.Role{
		ID: roleID, Name: AdminRole, Description: "May do everything.", IsAdmin: true, CreatedAt: g.now(),
	})
	if err != nil {
		return nil, err
	}
	token, err := g.insertToken(ctx, issued, tokenID, role, fingerprint, expiresInSecs)
	if err != nil {
		return nil, err
	}
	return g.facts(token, role), nil
}

func newID(cfg Config, of string) (uuid.UUID, error) {
	id, err := uuid.NewRandomFromReader(cfg.Random)
	if err != nil {
		return id, fault.Wrap(fault.Internal, fmt.Errorf("making a %s id: %w", of, err), "")
	}
	return id, nil
}
