package postgres

import (
	"context"
	"fmt"
)

// CheckLogin refuses a login that doesn't have the rights of the group role that the program works with: row security would
// hide rows from it, which looks like an empty vault. strong tells that the login passes by row security altogether
// (a superuser, or BYPASSRLS), which works and shouldn't be.
func (d *DB) CheckLogin(ctx context.Context, group string) (strong bool, err error) {
	var login string
	var member bool
	err = d.pool.QueryRow(ctx,
		"SELECT current_user::text, pg_has_role(current_user, $1, 'USAGE'), rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user",
		group).Scan(&login, &member, &strong)
	if err != nil {
		return false, fmt.Errorf("asking for the login's rights: %w", err)
	}
	if !member {
		return false, fmt.Errorf("the login %s is not in %s: connect as one that is, or grant it (see `sealkeep migrate roles --print`)", login, group)
	}
	return strong, nil
}
