package vault

import (
	"context"
	"slices"

	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// Prepare makes sure that a targeted secret has a pending version: the one that is there, whatever became of the job that made it, or a new
// one. There is never a second. over tells that there was nothing left to be done, and that the job is over.
func (r *Rotations) Prepare(ctx context.Context, j *Job) (over bool, err error) {
	err = retryRaced(ctx, func() error { return r.prepareOnce(ctx, j) })
	return r.settle(ctx, j, err)
}

func (r *Rotations) prepareOnce(ctx context.Context, j *Job) (err error) {
	work, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	a := r.attempt(ActionRotationPrepare, j)
	defer func() { err = r.tell(ctx, a, err) }()
	has, err := r.hasPending(work, a, j)
	if err != nil || has {
		return err
	}
	next, on, err := r.next(work, a, j)
	if err != nil {
		return err
	}
	sealed, err := r.v.seal(work, on.secretID, j.Secret, on.next, next)
	next.Release()
	if err != nil {
		return err
	}
	var made *lockedSecret
	err = r.change(work, a, func(ctx context.Context, tx *postgres.Tx) error {
		l, err := a.lockBase(ctx, tx, j.Secret, on)
		if err != nil {
			return err
		}
		if l.Target == nil {
			return ErrRetargeted
		}
		if l.pending() != nil {
			return errRaced
		}
		if _, err := a.due(ctx, l, j); err != nil {
			return err
		}
		if err := l.room(secret.Seconds(l.GracePeriodSecs)); err != nil {
			return l.waits(err)
		}
		if err := l.insert(ctx, tx, r.v.keys, sealed, secret.Pending); err != nil {
			return err
		}
		made = l
		a.noteSecret(l.ID, l.Revision+1, l.CurrentVersion)
		a.note("pending_version", sealed.version)
		if err := l.advance(ctx, tx, r.v.keys); err != nil {
			return err
		}
		return mine(tx.MoveJob(ctx, db.MoveJobParams{ID: j.ID, ClaimID: &j.Claim, Step: StepPrepared}))
	})
	if err == nil {
		r.v.seen.made(&made.VaultSecret)
	}
	return err
}

// hasPending tells whether there is a pending version already. It asks no more than the rows' states: what is done with one is decided
// when it is verified.
func (r *Rotations) hasPending(ctx context.Context, a *attempt, j *Job) (bool, error) {
	row, err := a.find(ctx, j.Secret)
	if err != nil {
		return false, err
	}
	if row.Target == nil {
		return false, ErrRetargeted
	}
	rows, err := r.v.db.Versions(ctx, row.ID)
	if err != nil {
		return false, postgres.Fault(err)
	}
	return slices.ContainsFunc(rows, func(v db.VersionsRow) bool { return v.State == string(secret.Pending) }), nil
}

// abandon gives up a pending version, if there is one: it might be live at the target, so that it stays until a newer one is proven.
// advance or store have still to follow.
func (a *attempt) abandon(ctx context.Context, tx *postgres.Tx, l *lockedSecret) error {
	return l.move(ctx, tx, a.vault, l.pending(), secret.Abandoned)
}

// move gives a pending version its next state.
func (l *lockedSecret) move(ctx context.Context, tx *postgres.Tx, v *Vault, row *db.VersionsRow, to secret.State) error {
	if row == nil {
		return nil
	}
	row.State = string(to)
	mac, keyID, err := v.keys.MAC(versionOf(row))
	if err != nil {
		return err
	}
	row.Mac, row.KeyID = mac, &keyID
	return exactly(1)(tx.MoveVersion(ctx, db.MoveVersionParams{
		SecretID: l.ID, Version: row.Version, VersionUid: row.VersionUid, State: row.State, Mac: mac, KeyID: &keyID,
	}))
}
