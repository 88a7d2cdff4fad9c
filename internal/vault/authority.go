package vault

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// authority is the whole set of grants as the vault wrote it: every row verified, and the set of them covered by the snapshot's
// MAC. A row that the snapshot doesn't cover is in none. One that serves requests is changed by nobody.
type authority struct {
	vaultID uuid.UUID
	epoch   int64
	mac     []byte // of the snapshot
	tuples  string
	readAt  time.Time // the database's clock
	roles   map[uuid.UUID]*heldRole
	tokens  map[uuid.UUID]*heldToken
	bearers map[access.Fingerprint]*heldToken
}

type heldRole struct {
	integrity.Role
	mac         []byte
	permissions []heldPermission // by path and action
	rules       access.Rules
}

type heldPermission struct {
	integrity.Permission
	mac []byte
}

type heldToken struct {
	integrity.Token
	mac         []byte
	role        *heldRole
	fingerprint access.Fingerprint
	who         *identity
}

// live tells whether the token works at that time.
func (t *heldToken) live(at time.Time) bool {
	return t.RevokedAt == nil && (t.ExpiresAt == nil || at.Before(*t.ExpiresAt))
}

// damaged says which row of the grants doesn't verify.
func damaged(what, name string, err error) error {
	return fmt.Errorf("%w: %s %q: %w", errDamaged, what, name, err)
}

var errNoSnapshot = fmt.Errorf("%w: the row of vault.authz_state is missing", errDamaged)

// verifyAuthority makes what was read the set of grants that it must be: the one whose snapshot was taken at that epoch; 0 means
// that of the state's row. Any error that isn't of the database wraps errDamaged.
func verifyAuthority(keys *integrity.Keyring, rows []postgres.GrantRow, epoch int64) (*authority, error) {
	a := &authority{
		roles: map[uuid.UUID]*heldRole{}, tokens: map[uuid.UUID]*heldToken{}, bearers: map[access.Fingerprint]*heldToken{},
	}
	var state *postgres.GrantRow
	macs := make([][]byte, 0, len(rows))
	for i := range rows {
		row := &rows[i]
		if row.Kind == "state" {
			state = row
			continue
		}
		if err := a.add(keys, row); err != nil {
			return nil, err
		}
		macs = append(macs, row.MAC)
	}
	if state == nil {
		return nil, errNoSnapshot
	}
	if err := a.join(rows); err != nil {
		return nil, err
	}
	a.epoch, a.mac, a.tuples, a.readAt = state.Epoch, state.MAC, state.Tuples, state.CreatedAt
	if epoch != 0 {
		a.epoch = epoch
	}
	a.vaultID = state.ID
	if state.ID != keys.VaultID() {
		return nil, damaged("vault", state.ID.String(), errors.New("it isn't the one that this process serves"))
	}
	snapshot := integrity.Grants{VaultID: state.ID, Epoch: a.epoch, Initialised: state.Flag, Digest: integrity.DigestGrants(macs)}
	if err := keys.Check(snapshot, state.MAC, state.KeyID); err != nil {
		return nil, fmt.Errorf("%w: the grants aren't those of their snapshot: one was added, removed or put back: %w", errDamaged, err)
	}
	a.finish()
	return a, nil
}

// add verifies one row and takes it up.
func (a *authority) add(keys *integrity.Keyring, row *postgres.GrantRow) error {
	switch row.Kind {
	case "role":
		r := &heldRole{Role: integrity.Role{
			ID: row.ID, Name: row.Name, Description: row.Text, IsAdmin: row.Flag, CreatedAt: row.CreatedAt,
		}, mac: row.MAC}
		if err := keys.Check(r.Role, row.MAC, row.KeyID); err != nil {
			return damaged("role", row.Name, err)
		}
		a.roles[r.ID] = r
	case "permission":
		p := integrity.Permission{RoleID: row.ID, Action: row.Name, Path: row.Text}
		if err := keys.Check(p, row.MAC, row.KeyID); err != nil {
			return damaged("permission", row.Name+" "+row.Text, err)
		}
	case "token":
		t := &heldToken{Token: integrity.Token{
			ID: row.ID, Name: row.Name, Fingerprint: row.Fingerprint, CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt, RevokedAt: row.RevokedAt,
		}, mac: row.MAC}
		if row.RoleID == nil || copy(t.fingerprint[:], row.Fingerprint) != len(t.fingerprint) {
			return damaged("token", row.Name, integrity.ErrForged)
		}
		t.RoleID = *row.RoleID
		if err := keys.Check(t.Token, row.MAC, row.KeyID); err != nil {
			return damaged("token", row.Name, err)
		}
		a.tokens[t.ID] = t
		a.bearers[t.fingerprint] = t
	}
	return nil
}

// lacks tells whether a row verifies by itself that isn't one of these: then these aren't the only grants that the vault made, and
// others may have taken their place.
func (a *authority) lacks(keys *integrity.Keyring, rows []postgres.GrantRow) bool {
	known := map[string]bool{}
	for _, r := range a.roles {
		known[string(r.mac)] = true
		for _, p := range r.permissions {
			known[string(p.mac)] = true
		}
	}
	for _, t := range a.tokens {
		known[string(t.mac)] = true
	}
	other := &authority{
		roles: map[uuid.UUID]*heldRole{}, tokens: map[uuid.UUID]*heldToken{}, bearers: map[access.Fingerprint]*heldToken{},
	}
	for i := range rows {
		if row := &rows[i]; row.Kind != "state" && !known[string(row.MAC)] && other.add(keys, row) == nil {
			return true
		}
	}
	return false
}

// join gives permissions and tokens their roles.
func (a *authority) join(rows []postgres.GrantRow) error {
	for i := range rows {
		if row := &rows[i]; row.Kind == "permission" {
			role := a.roles[row.ID]
			if role == nil {
				return damaged("permission", row.Name+" "+row.Text, errors.New("its role is missing"))
			}
			role.permissions = append(role.permissions, heldPermission{
				integrity.Permission{RoleID: row.ID, Action: row.Name, Path: row.Text}, row.MAC,
			})
		}
	}
	for _, t := range a.tokens {
		if t.role = a.roles[t.RoleID]; t.role == nil {
			return damaged("token", t.Name, errors.New("its role is missing"))
		}
	}
	return nil
}

// finish parses the rules and says who each token's bearer is.
func (a *authority) finish() {
	for _, role := range a.roles {
		slices.SortFunc(role.permissions, func(x, y heldPermission) int {
			return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.Action, y.Action))
		})
		role.rules = access.NewRules(role.IsAdmin, role.held())
	}
	for _, t := range a.tokens {
		t.who = &identity{actor: "token:" + t.Name, rules: t.role.rules, tokenID: t.ID, expires: t.ExpiresAt, epoch: a.epoch}
	}
}

// digest stands for what the role may do, in whatever order that is kept.
func (r *heldRole) digest() []byte {
	permissions := make([]integrity.Permission, len(r.permissions))
	for i, p := range r.permissions {
		permissions[i] = p.Permission
	}
	sum := integrity.DigestPermissions(permissions)
	return sum[:]
}

func (r *heldRole) held() []access.Permission {
	permissions := make([]access.Permission, len(r.permissions))
	for i, p := range r.permissions {
		permissions[i] = access.Permission{Action: access.Action(p.Action), Path: access.Pattern(p.Path)}
	}
	return permissions
}

// bearer tells who holds a token. With an error it may still tell who the actor is.
func (a *authority) bearer(fingerprint access.Fingerprint, at time.Time) (*identity, error) {
	t := a.bearers[fingerprint]
	switch {
	case t == nil || !t.fingerprint.Equal(fingerprint):
		return nil, invalidToken("the token is unknown")
	case t.RevokedAt != nil:
		return t.who.withoutRights(), invalidToken("the token was revoked")
	case !t.live(at):
		return t.who.withoutRights(), invalidToken("the token has expired")
	}
	return t.who, nil
}

// role gives the role of that name, or nil.
func (a *authority) role(name string) *heldRole {
	for _, r := range a.roles {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// token gives the token of that name, or nil.
func (a *authority) token(name string) *heldToken {
	for _, t := range a.tokens {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// same tells whether two sets are one and the same snapshot.
func (a *authority) same(b *authority) bool { return a.epoch == b.epoch && bytes.Equal(a.mac, b.mac) }

// view describes a role.
func (r *heldRole) view() Role {
	return Role{Name: r.Name, Description: r.Description, IsAdmin: r.IsAdmin, Permissions: r.held(), CreatedAt: r.CreatedAt}
}
