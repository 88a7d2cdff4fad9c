package vault

import (
	"context"
	"slices"

	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// Promote makes the pending version that the target took the current one, and completes the job.
func (r *Rotations) Promote(ctx context.Context, j *Job, d *Delivery) error {
	err := retryRaced(ctx, func() error { return r.promoteOnce(ctx, j, d) })
	_, err = r.settle(ctx, j, err)
	return err
}

func (r *Rotations) promoteOnce(ctx context.Context, j *Job, d *Delivery) error {
	work, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	action := ActionRotate
	if j.Reason == ReasonRollback {
		action = ActionRollback
	}
	a := r.attempt(action, j)
	var made *lockedSecret
	err := r.change(work, a, func(ctx context.Context, tx *postgres.Tx) error {
		l, err := a.lock(ctx, tx, j.Secret)
		if err != nil {
			return err
		}
		if err := a.readVersions(ctx, tx, l); err != nil {
			return err
		}
		if l.current() == nil {
			return a.alarm(ctx, l.Name, &l.CurrentVersion, errNotCurrent)
		}
		pending := l.deliver(j)
		if pending == nil || pending.VersionUid != d.version.VersionUid {
			return errOvertaken
		}
		p, err := planOf(&l.VaultSecret)
		if err != nil {
			return a.alarm(ctx, l.Name, nil, err)
		}
		if err := l.retire(ctx, tx, r.v.keys, secret.Seconds(l.GracePeriodSecs)); err != nil {
			return err
		}
		if err := l.move(ctx, tx, r.v, pending, secret.Current); err != nil {
			return err
		}
		l.CurrentVersion = pending.Version
		if err := l.removeAbandoned(ctx, tx); err != nil {
			return err
		}
		l.NextRotationAt = p.next(l)
		made = l
		if err := tx.ProbeSoon(ctx, l.ID); err != nil {
			return err
		}
		a.noteSecret(l.ID, l.Revision+1, l.CurrentVersion)
		a.noteRemoved(l.removed)
		a.note("generation", d.Generation)
		if err := l.advance(ctx, tx, r.v.keys); err != nil {
			return err
		}
		return complete(ctx, tx, j, outcomeRotated)
	})
	if err == nil {
		r.v.seen.made(&made.VaultSecret)
	}
	return err
}

// removeAbandoned removes what was kept because the target might have it, now that it has proved to have a newer version.
func (l *lockedSecret) removeAbandoned(ctx context.Context, tx *postgres.Tx) error {
	var old []int64
	l.versions = slices.DeleteFunc(l.versions, func(v db.VersionsRow) bool {
		gone := v.State == string(secret.Abandoned) && (v.Version < l.CurrentVersion || l.Target == nil)
		if gone {
			old = append(old, v.Version)
		}
		return gone
	})
	if l.removed = len(old); l.removed == 0 {
		return nil
	}
	return exactly(len(old))(tx.RemoveAbandoned(ctx, db.RemoveAbandonedParams{SecretID: l.ID, Versions: old}))
}

// Finish ends a job that repaired what drifted, or found that nothing had.
func (r *Rotations) Finish(ctx context.Context, j *Job, repaired bool) error {
	if repaired {
		return r.end(ctx, j, outcomeRepaired)
	}
	return r.end(ctx, j, outcomeUnneeded)
}
