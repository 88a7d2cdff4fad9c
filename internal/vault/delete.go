package vault

import (
	"context"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/postgres"
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
		var buried *lockedSecret
		err := a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
			locked, err := a.lock(ctx, tx, parsed.String())
			if err != nil {
				return err
			}
			if len(p.Tags) > 0 {
				if err := a.readVersions(ctx, tx, locked); err != nil {
					return err
				}
				if err := p.holds(locked.CurrentVersion, locked.uid()); err != nil {
					return err
				}
			}
			if locked.Target != nil {
				job, err := openJob(ctx, tx, locked)
				if err != nil {
					return err
				}
				if job != nil && job.Step == StepApplying && job.DeadAt == nil {
					return errUnderWay
				}
			}
			buried = locked
			a.noteSecret(locked.ID, locked.Revision+1, locked.CurrentVersion)
			return locked.bury(ctx, tx, v.keys)
		})
		if err == nil {
			v.seen.buried(buried.ID, buried.Name, buried.Revision+1)
		}
		return struct{}{}, err
	})
	return err
}
