package vault

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
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
			if err := tx.BumpEpoch(ctx); err != nil {
				return err
			}
			var err error
			created.CreatedAt, err = tx.InsertRole(ctx, db.InsertRoleParams{ID: id, Name: name, Description: r.Description, IsAdmin: r.IsAdmin})
			if postgres.IsUniqueViolation(err) {
				return fault.New(fault.Conflict, "a role of this name exists already").WithCode("already_exists")
			}
			if err != nil {
				return err
			}
			return insertPermissions(ctx, tx, id, permissions)
		})
		return created, err
	})
}

// Roles lists all roles.
func (v *Vault) Roles(ctx context.Context, c Caller) ([]Role, error) {
	op := operation{action: ActionRoleList, rule: needsAdmin}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) ([]Role, error) {
		rows, err := v.db.Roles(ctx)
		if err != nil {
			return nil, err
		}
		ids := make([]uuid.UUID, len(rows))
		for i, row := range rows {
			ids[i] = row.ID
		}
		permissions, err := v.permissions(ctx, ids)
		if err != nil {
			return nil, err
		}
		roles := make([]Role, len(rows))
		for i, row := range rows {
			roles[i] = Role{
				Name: row.Name, Description: row.Description, IsAdmin: row.IsAdmin, Permissions: permissions[row.ID], CreatedAt: row.CreatedAt,
			}
		}
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
		row, err := v.db.RoleByName(ctx, parsed)
		if postgres.IsNotFound(err) {
			return nil, errNoRole
		}
		if err != nil {
			return nil, err
		}
		permissions, err := v.permissions(ctx, []uuid.UUID{row.ID})
		if err != nil {
			return nil, err
		}
		return &Role{
			Name: row.Name, Description: row.Description, IsAdmin: row.IsAdmin, Permissions: permissions[row.ID], CreatedAt: row.CreatedAt,
		}, nil
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
			row, err := lockRole(ctx, tx, parsed)
			if err != nil {
				return err
			}
			if row.IsAdmin {
				return fault.New(fault.Invalid, "an admin role may do everything: it takes no permissions")
			}
			if err := tx.DeletePermissions(ctx, row.ID); err != nil {
				return err
			}
			changed = &Role{
				Name: row.Name, Description: row.Description, IsAdmin: row.IsAdmin, Permissions: permissions, CreatedAt: row.CreatedAt,
			}
			return insertPermissions(ctx, tx, row.ID, permissions)
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
			row, err := lockRole(ctx, tx, parsed)
			if err != nil {
				return err
			}
			live, err := tx.CountLiveTokensOfRole(ctx, row.ID)
			if err != nil {
				return err
			}
			if live > 0 {
				return fault.Newf(fault.Conflict, "%d tokens use this role: revoke them first", live).WithCode("in_use")
			}
			if err := tx.DeleteDeadTokensOfRole(ctx, row.ID); err != nil {
				return err
			}
			_, err = tx.DeleteRole(ctx, row.ID)
			return err
		})
	})
	return err
}

// lockRole raises the grants' epoch, which serialises all changes of grants, and locks the role.
func lockRole(ctx context.Context, tx *postgres.Tx, name string) (db.LockRoleRow, error) {
	if err := tx.BumpEpoch(ctx); err != nil {
		return db.LockRoleRow{}, err
	}
	row, err := tx.LockRole(ctx, name)
	if postgres.IsNotFound(err) {
		return row, errNoRole
	}
	return row, err
}

func insertPermissions(ctx context.Context, tx *postgres.Tx, roleID uuid.UUID, permissions []access.Permission) error {
	if len(permissions) == 0 {
		return nil
	}
	p := db.InsertPermissionsParams{RoleID: roleID}
	for _, one := range permissions {
		p.Actions = append(p.Actions, string(one.Action))
		p.Paths = append(p.Paths, string(one.Path))
	}
	return tx.InsertPermissions(ctx, p)
}

func (v *Vault) permissions(ctx context.Context, roleIDs []uuid.UUID) (map[uuid.UUID][]access.Permission, error) {
	rows, err := v.db.Permissions(ctx, roleIDs)
	if err != nil {
		return nil, err
	}
	byRole := make(map[uuid.UUID][]access.Permission, len(roleIDs))
	for _, row := range rows {
		byRole[row.RoleID] = append(byRole[row.RoleID], access.Permission{Action: access.Action(row.Action), Path: access.Pattern(row.Path)})
	}
	return byRole, nil
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
