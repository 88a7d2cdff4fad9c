package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// AdminRole is the built-in role that may do everything. It can't be changed or deleted.
const AdminRole = "admin"

// MaxPermissions bounds the permissions of one role, so that the audit record of a change has room for all of them.
const MaxPermissions = 128

var errNoRole = fault.New(fault.NotFound, "there is no such role")

// CreateRole makes a role.
func (v *Vault) CreateRole(ctx context.Context, c Caller, r RoleRequest) (*Role, error) {
	name, err := access.ParseEntityName(r.Name)
	if err != nil {
		return nil, err
	}
	op := operation{action: ActionRoleCreate, rule: needsAdmin, detail: map[string]any{"role": name}}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*Role, error) {
		if len(r.Description) > secret.MaxDescriptionBytes || !utf8.ValidString(r.Description) {
			return nil, fault.Newf(fault.Invalid, "description is at most %d bytes of UTF-8", secret.MaxDescriptionBytes)
		}
		if r.IsAdmin && len(r.Permissions) > 0 {
			return nil, fault.New(fault.Invalid, "an admin role may do everything: it takes no permissions")
		}
		permissions, err := distinct(r.Permissions)
		if err != nil {
			return nil, err
		}
		id, err := uuid.NewRandomFromReader(v.cfg.Random)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, fmt.Errorf("making a role id: %w", err), "")
		}
		a.note("is_admin", r.IsAdmin)
		a.note("permissions", permissionTexts(permissions))
		created := &Role{Name: name, Description: r.Description, IsAdmin: r.IsAdmin, Permissions: permissions}
		err = a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
			return a.regrant(ctx, tx, func(g *regrant) error {
				created.CreatedAt = g.now()
				role, err := g.insertRole(ctx, integrity.Role{
					ID: id, Name: name, Description: r.Description, IsAdmin: r.IsAdmin, CreatedAt: created.CreatedAt,
				})
				if err != nil {
					return err
				}
				if err := g.setPermissions(ctx, role, permissions); err != nil {
					return err
				}
				g.note(a, nil, role)
				return nil
			})
		})
		return created, err
	})
}

// Roles lists all roles.
func (v *Vault) Roles(ctx context.Context, c Caller) ([]Role, error) {
	op := operation{action: ActionRoleList, rule: needsAdmin}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) ([]Role, error) {
		set, err := a.grants(ctx)
		if err != nil {
			return nil, err
		}
		roles := make([]Role, 0, len(set.roles))
		for _, role := range set.roles {
			roles = append(roles, role.view())
		}
		slices.SortFunc(roles, func(a, b Role) int { return strings.Compare(a.Name, b.Name) })
		a.note("items", len(roles))
		return roles, nil
	})
}

// Role describes one role.
func (v *Vault) Role(ctx context.Context, c Caller, name string) (*Role, error) {
	parsed, err := access.ParseEntityName(name)
	if err != nil {
		return nil, err
	}
	op := operation{action: ActionRoleRead, rule: needsAdmin, detail: map[string]any{"role": parsed}}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*Role, error) {
		set, err := a.grants(ctx)
		if err != nil {
			return nil, err
		}
		role := set.role(parsed)
		if role == nil {
			return nil, errNoRole
		}
		described := role.view()
		return &described, nil
	})
}

// SetRolePermissions replaces a role's permissions.
func (v *Vault) SetRolePermissions(ctx context.Context, c Caller, name string, wanted []access.Permission) (*Role, error) {
	parsed, err := access.ParseEntityName(name)
	if err != nil {
		return nil, err
	}
	op := operation{action: ActionRolePermissions, rule: needsAdmin, detail: map[string]any{"role": parsed}}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*Role, error) {
		permissions, err := distinct(wanted)
		if err != nil {
			return nil, err
		}
		a.note("permissions", permissionTexts(permissions))
		var changed *Role
		err = a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
			return a.regrant(ctx, tx, func(g *regrant) error {
				role := g.set.role(parsed)
				switch {
				case role == nil:
					return errNoRole
				case role.IsAdmin:
					return fault.New(fault.Invalid, "an admin role may do everything: it takes no permissions")
				}
				if err := g.setPermissions(ctx, role, permissions); err != nil {
					return err
				}
				g.note(a, nil, role)
				described := role.view()
				described.Permissions = permissions // in the order that they were given
				changed = &described
				return nil
			})
		})
		return changed, err
	})
}

// DeleteRole removes a role that no live token uses. Its revoked and expired tokens go with it.
func (v *Vault) DeleteRole(ctx context.Context, c Caller, name string) error {
	parsed, err := access.ParseEntityName(name)
	if err != nil {
		return err
	}
	op := operation{action: ActionRoleDelete, rule: needsAdmin, detail: map[string]any{"role": parsed}}
	_, err = pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (struct{}, error) {
		if parsed == AdminRole {
			return struct{}{}, fault.New(fault.Invalid, "the built-in role admin can't be deleted")
		}
		return struct{}{}, a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
			return a.regrant(ctx, tx, func(g *regrant) error {
				role := g.set.role(parsed)
				if role == nil {
					return errNoRole
				}
				live := 0
				for _, t := range g.set.tokens {
					if t.RoleID == role.ID && t.live(g.now()) {
						live++
					}
				}
				if live > 0 {
					return fault.Newf(fault.Conflict, "%d tokens use this role: revoke them first", live).WithCode("in_use")
				}
				g.note(a, nil, role)
				return g.deleteRole(ctx, role)
			})
		})
	})
	return err
}

// grants gives all grants for an answer that tells of them: what the tables hold is verified row by row. The answer leaves only if
// their epoch is the one that allowed it.
func (a *attempt) grants(ctx context.Context) (*authority, error) {
	set, err := a.vault.grants.whole(ctx)
	if err != nil {
		return nil, a.grantsAlarm(ctx, err)
	}
	if set.epoch != a.who.epoch {
		return nil, postgres.ErrGrantsMoved
	}
	return set, nil
}

// distinct checks permissions and drops repeated ones, keeping their order.
func distinct(permissions []access.Permission) ([]access.Permission, error) {
	if len(permissions) > MaxPermissions {
		return nil, fault.Newf(fault.Invalid, "a role has at most %d permissions", MaxPermissions)
	}
	seen := make(map[access.Permission]bool, len(permissions))
	out := make([]access.Permission, 0, len(permissions))
	for i, p := range permissions {
		action, err := access.ParseAction(string(p.Action))
		if err == nil {
			p.Action = action
			p.Path, err = access.ParsePattern(string(p.Path))
		}
		if err != nil {
			return nil, fault.Newf(fault.Invalid, "permissions[%d]: %s", i, fault.Message(err))
		}
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out, nil
}

// permissionTexts gives what an audit record says of permissions.
func permissionTexts(permissions []access.Permission) []string {
	texts := make([]string, len(permissions))
	for i, p := range permissions {
		texts[i] = string(p.Action) + " " + string(p.Path)
	}
	return texts
}
