package vault

import (
	"context"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// Delete removes a secret and all its versions. A secret made later under the same name has another id, so nothing of the old
// one opens in its place and no old entity tag matches.
func (v *Vault) Delete(ctx context.Context, c Caller, name string, p Precondition) error {
	parsed, err := secret.ParseName(name)
	if err != nil {
		return err
	}
	op := operation{action: ActionDelete, rule: needsRight, right: access.Delete, name: parsed.String()}
	_, err = pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (struct{}, error) {
		return struct{}{}, a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
			row, err := tx.LockSecret(ctx, parsed.String())
			if postgres.IsNotFound(err) {
				return errNoSecret
			}
			if err != nil {
				return err
			}
			if len(p.Tags) > 0 {
				uid, err := tx.CurrentVersionUID(ctx, db.CurrentVersionUIDParams{SecretID: row.ID, Version: row.CurrentVersion})
				if err != nil && !postgres.IsNotFound(err) {
					return err
				}
				if err := p.holds(row.CurrentVersion, uid); err != nil {
					return err
				}
			}
			a.version = row.CurrentVersion
			_, err = tx.DeleteSecret(ctx, row.ID)
			return err
		})
	})
	return err
}
