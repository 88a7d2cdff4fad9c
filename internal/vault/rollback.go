package vault

import (
	"context"
	"strconv"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Rollback gives a secret the value that a version has which is still valid, as a new version: at once or, if it has a target, by a job
// that a rotator takes up. The answer holds the value only if the caller may also read it.
func (v *Vault) Rollback(ctx context.Context, c Caller, r RollbackRequest) (*Rotated, error) {
	parsed, err := secret.ParseName(r.Name)
	if err != nil {
		return nil, err
	}
	if r.Version < 1 {
		return nil, fault.New(fault.Invalid, "version is a positive number, of a version that is still valid")
	}
	op := operation{action: ActionRollback, rule: needsRight, right: access.Rotate, name: parsed.String(), detail: map[string]any{"from_version": r.Version}}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*Rotated, error) {
		o, err := a.once(r.IdempotencyKey, [][]byte{strconv.AppendInt(nil, r.Version, 10)})
		if err != nil {
			return nil, err
		}
		return o.do(ctx, func() (rotated *Rotated, err error) {
			err = retryRaced(ctx, func() error {
				rotated, err = v.rollbackOnce(ctx, a, o, r.Version)
				return err
			})
			return rotated, err
		})
	})
}

func (v *Vault) rollbackOnce(ctx context.Context, a *attempt, o *once, number int64) (*Rotated, error) {
	row, err := a.sealed(ctx, a.op.name, true, true)
	if err != nil {
		return nil, err
	}
	on, err := baseOf(row)
	if err != nil {
		return nil, a.alarm(ctx, row.Name, &row.CurrentVersion, err)
	}
	if number == on.version {
		return nil, fault.New(fault.Conflict, "this version is the current one already").WithCode("already_current")
	}
	version := row.version(number, v.trail.DatabaseTime())
	if version == nil {
		return nil, errNoVersion
	}
	m, err := v.open(ctx, storedAs(row, version))
	if err != nil {
		return nil, a.alarm(ctx, row.Name, &number, err)
	}
	still := func(l *lockedSecret) error { return l.stillValid(number, version.UID) }
	if row.Target == nil {
		s, err := v.replaceNow(ctx, a, o, row, on, m, still)
		if err != nil {
			return nil, err
		}
		return &Rotated{Secret: s}, nil
	}
	defer m.Release()
	return v.queueRollback(ctx, a, o, row, on, m, still)
}

// queueRollback makes m the pending version of a targeted secret, in the same transaction as the job that hands it to the target. The
// secret's due time stays: the job asks for the version that is there, and if its target refuses that there is nothing else to be made.
func (v *Vault) queueRollback(
	ctx context.Context, a *attempt, o *once, row *sealedSecret, on base, m secret.Material, still func(*lockedSecret) error,
) (*Rotated, error) {
	settings, err := (UpdateRequest{}).merge(&row.VaultSecret)
	if err != nil {
		return nil, a.alarm(ctx, row.Name, nil, err)
	}
	if err := suits(settings, m); err != nil {
		return nil, err
	}
	if err := a.sameRole(ctx, row, settings, m); err != nil {
		return nil, err
	}
	sealed, err := v.seal(ctx, row.ID, row.Name, on.next, m)
	if err != nil {
		return nil, err
	}
	made, view, err := v.withJob(ctx, a, o, func(ctx context.Context, tx *postgres.Tx, l *lockedSecret, id uuid.UUID) (uuid.UUID, error) {
		if err := l.isAt(on); err != nil {
			return id, err
		}
		if string(l.Target) != string(row.Target) {
			return id, errRaced
		}
		if err := still(l); err != nil {
			return id, err
		}
		switch job, err := openJob(ctx, tx, l); {
		case err != nil:
			return id, err
		case job != nil && job.DeadAt != nil:
			return id, errJobDead
		case job != nil || l.pending() != nil:
			return id, errUnderWay
		}
		if err := l.room(secret.Seconds(l.GracePeriodSecs)); err != nil {
			return id, err
		}
		if err := l.insert(ctx, tx, v.keys, sealed, secret.Pending); err != nil {
			return id, err
		}
		a.noteSecret(l.ID, l.Revision+1, l.CurrentVersion)
		a.note("pending_version", sealed.version)
		a.noteJob(id, ReasonRollback, outcomeOK)
		if err := l.store(ctx, tx, v.keys); err != nil {
			return id, err
		}
		return id, inserted(tx.InsertPreparedJob(ctx, db.InsertPreparedJobParams{
			ID: id, SecretID: l.ID, Reason: ReasonRollback, DueAt: l.now, BaseVersion: l.CurrentVersion,
		}))
	})
	if err != nil {
		return nil, err
	}
	v.seen.made(&made.VaultSecret)
	return &Rotated{Job: view}, nil
}

// sameRole refuses a version of another role than the current one's, at a target that has one role: whose password is changed isn't for who
// may rotate to say.
func (a *attempt) sameRole(ctx context.Context, row *sealedSecret, s secret.Settings, m secret.Material) error {
	if s.Target == nil || s.Target.Postgres == nil || s.Target.Postgres.Mode != secret.ModeSingle {
		return nil
	}
	current, err := a.vault.openCurrent(ctx, row)
	if err != nil {
		return a.alarm(ctx, row.Name, &row.CurrentVersion, err)
	}
	defer current.Release()
	if !sensitive.Equal(current.Username, m.Username) {
		return fault.New(fault.Conflict, "that version has another username than the current one: PUT the username and password that are to be used").
			WithCode("another_username")
	}
	return nil
}

// stillValid tells whether a version that was looked up is still there and valid.
func (l *lockedSecret) stillValid(number int64, uid uuid.UUID) error {
	for i := range l.versions {
		if v := &l.versions[i]; v.Version == number && v.VersionUid == uid && secret.Valid(secret.State(v.State), v.ExpiresAt, l.now) {
			return nil
		}
	}
	return errNoVersion
}
