package vault

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// regrant is a change of grants within its transaction. It begins with the whole set, verified, so that a change never vouches for
// what somebody else put there, and ends with the MAC of the set that it made. Nobody else changes grants meanwhile: raising the
// epoch locks them out.
type regrant struct {
	tx    *postgres.Tx
	keys  *integrity.Keyring
	set   *authority // as it will be
	epoch int64      // likewise
}

// changeGrants runs fn on the grants of a transaction.
func changeGrants(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring, fn func(*regrant) error) error {
	if err := tx.BumpEpoch(ctx); err != nil {
		if postgres.IsNotFound(err) {
			return errNoSnapshot
		}
		return err
	}
	rows, err := tx.Grants(ctx)
	if err != nil {
		return err
	}
	raised := markOf(rows).Epoch
	set, err := verifyAuthority(keys, rows, raised-1)
	if err != nil {
		return err
	}
	g := &regrant{tx: tx, keys: keys, set: set, epoch: raised}
	if err := fn(g); err != nil {
		return err
	}
	return g.seal(ctx)
}

// regrant is changeGrants for an operation of a caller: grants that don't verify are an alarm.
func (a *attempt) regrant(ctx context.Context, tx *postgres.Tx, fn func(*regrant) error) error {
	return a.grantsAlarm(ctx, changeGrants(ctx, tx, a.vault.keys, func(g *regrant) error {
		if g.epoch <= a.vault.grants.highest.Load() {
			return errEpochBack // what this process knows of was put back: a change must not vouch for it
		}
		a.madeEpoch = g.epoch
		return fn(g)
	}))
}

// grantsAlarm is alarm for grants.
func (a *attempt) grantsAlarm(ctx context.Context, err error) error {
	if !errors.Is(err, errDamaged) {
		return err
	}
	if !a.freshKeys && errors.Is(err, integrity.ErrUnknownKey) {
		return errKeysBehind
	}
	a.outcome = outcomeUnverifiable
	a.vault.metrics.integrity.WithLabelValues(a.op.action).Inc()
	a.vault.log.ErrorContext(ctx, "integrity alarm: the grants in the database don't verify", "action", a.op.action, "error", err)
	return fault.Wrap(fault.Internal, err, "")
}

// note says in the record of a change of grants what it made, by which the tables can be compared with the trail: the epoch, and a
// token with its role, or a role with what it may do. Either may be nil.
func (g *regrant) note(a *attempt, token *heldToken, role *heldRole) {
	for key, value := range g.facts(token, role) {
		a.note(key, value)
	}
}

func (g *regrant) facts(token *heldToken, role *heldRole) map[string]any {
	facts := map[string]any{"epoch": g.epoch}
	if token != nil {
		facts["token_id"], facts["role_id"] = token.ID, token.RoleID
	}
	if role != nil {
		facts["role_id"], facts["is_admin"], facts["permissions_sha256"] = role.ID, role.IsAdmin, hex.EncodeToString(role.digest())
	}
	return facts
}

// now is the transaction's time, by which what it changes is dated.
func (g *regrant) now() time.Time { return g.set.readAt }

// snapshot gives the MAC of the grants as they will be.
func (g *regrant) snapshot() ([]byte, uuid.UUID, error) {
	var macs [][]byte
	for _, r := range g.set.roles {
		macs = append(macs, r.mac)
		for _, p := range r.permissions {
			macs = append(macs, p.mac)
		}
	}
	for _, t := range g.set.tokens {
		macs = append(macs, t.mac)
	}
	return g.keys.MAC(integrity.Grants{
		VaultID: g.set.vaultID, Epoch: g.epoch, Initialised: true, Digest: integrity.DigestGrants(macs),
	})
}

// seal writes the snapshot's MAC.
func (g *regrant) seal(ctx context.Context) error {
	mac, keyID, err := g.snapshot()
	if err != nil {
		return err
	}
	set, err := g.tx.SetGrantsMAC(ctx, db.SetGrantsMACParams{Mac: mac, KeyID: &keyID, Epoch: g.epoch})
	if err == nil && set != 1 {
		err = fmt.Errorf("the epoch %d was gone before its grants had a mac", g.epoch)
	}
	return err
}

func (g *regrant) insertRole(ctx context.Context, role integrity.Role) (*heldRole, error) {
	if g.set.role(role.Name) != nil {
		return nil, fault.New(fault.Conflict, "a role of this name exists already").WithCode("already_exists")
	}
	mac, keyID, err := g.keys.MAC(role)
	if err != nil {
		return nil, err
	}
	held := &heldRole{Role: role, mac: mac}
	g.set.roles[role.ID] = held
	return held, g.tx.InsertRole(ctx, db.InsertRoleParams{
		ID: role.ID, Name: role.Name, Description: role.Description, IsAdmin: role.IsAdmin, CreatedAt: role.CreatedAt, Mac: mac, KeyID: &keyID,
	})
}

// setPermissions replaces a role's permissions.
func (g *regrant) setPermissions(ctx context.Context, role *heldRole, permissions []access.Permission) error {
	if len(role.permissions) > 0 {
		if err := exactly(len(role.permissions))(g.tx.DeletePermissions(ctx, role.ID)); err != nil {
			return err
		}
	}
	role.permissions = nil
	if len(permissions) == 0 {
		return nil
	}
	p := db.InsertPermissionsParams{RoleID: role.ID}
	for _, one := range permissions {
		row := integrity.Permission{RoleID: role.ID, Action: string(one.Action), Path: string(one.Path)}
		mac, keyID, err := g.keys.MAC(row)
		if err != nil {
			return err
		}
		role.permissions = append(role.permissions, heldPermission{row, mac})
		p.Actions, p.Paths, p.Macs, p.KeyID = append(p.Actions, row.Action), append(p.Paths, row.Path), append(p.Macs, mac), &keyID
	}
	return g.tx.InsertPermissions(ctx, p)
}

// deleteRole removes a role, its permissions, and its tokens, none of which works any more.
func (g *regrant) deleteRole(ctx context.Context, role *heldRole) error {
	for id, t := range g.set.tokens {
		if t.RoleID == role.ID {
			if err := g.deleteToken(ctx, id); err != nil {
				return err
			}
		}
	}
	if err := g.setPermissions(ctx, role, nil); err != nil {
		return err
	}
	delete(g.set.roles, role.ID)
	return exactly(1)(g.tx.DeleteRole(ctx, role.ID))
}

// insertToken issues a token of a role. The name of one that no longer works is free.
func (g *regrant) insertToken(ctx context.Context, issued *IssuedToken, id uuid.UUID, role *heldRole, fingerprint access.Fingerprint, expiresInSecs *int64) (*heldToken, error) {
	if same := g.set.token(issued.Name); same != nil {
		if same.live(g.now()) {
			return nil, fault.New(fault.Conflict, "a token of this name exists already").WithCode("already_exists")
		}
		if err := g.deleteToken(ctx, same.ID); err != nil {
			return nil, err
		}
	}
	token := integrity.Token{ID: id, Name: issued.Name, RoleID: role.ID, Fingerprint: fingerprint[:], CreatedAt: g.now()}
	if expiresInSecs != nil {
		at := g.now().Add(time.Duration(*expiresInSecs) * time.Second)
		token.ExpiresAt = &at
	}
	mac, keyID, err := g.keys.MAC(token)
	if err != nil {
		return nil, err
	}
	held := &heldToken{Token: token, mac: mac, role: role, fingerprint: fingerprint}
	g.set.tokens[id] = held
	issued.CreatedAt, issued.ExpiresAt = token.CreatedAt, token.ExpiresAt
	err = g.tx.InsertToken(ctx, db.InsertTokenParams{
		ID: id, Name: token.Name, RoleID: role.ID, TokenSha256: token.Fingerprint, CreatedAt: token.CreatedAt, ExpiresAt: token.ExpiresAt,
		Mac: mac, KeyID: &keyID,
	})
	if postgres.IsUniqueViolation(err) {
		return nil, fault.New(fault.Conflict, "a token of this name exists already").WithCode("already_exists")
	}
	return held, err
}

func (g *regrant) deleteToken(ctx context.Context, id uuid.UUID) error {
	delete(g.set.tokens, id)
	return exactly(1)(g.tx.DeleteToken(ctx, id))
}

func (g *regrant) revoke(ctx context.Context, token *heldToken) error {
	at := g.now()
	token.RevokedAt = &at
	mac, keyID, err := g.keys.MAC(token.Token)
	if err != nil {
		return err
	}
	token.mac = mac
	return exactly(1)(g.tx.RevokeToken(ctx, db.RevokeTokenParams{ID: token.ID, RevokedAt: &at, Mac: mac, KeyID: &keyID}))
}

// exactly refuses a statement that touched other rows than those that were verified: somebody writes at the same time.
func exactly(want int) func(int64, error) error {
	return func(got int64, err error) error {
		if err == nil && got != int64(want) {
			err = fmt.Errorf("%w: a statement touched %d rows in place of %d", errDamaged, got, want)
		}
		return err
	}
}
