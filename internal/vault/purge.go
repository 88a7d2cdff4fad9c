package vault

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// errNothingEnded says that a secret has no version to be removed, or that none may be yet.
var errNothingEnded = errors.New("no version of the secret may be removed")

// purgeSecret removes the versions of one secret whose grace has ended, with a record in the audit trail, and tells how many. Nobody asked for
// it, so that it doesn't pass the gate. What the tables say is verified before; what doesn't verify is an alarm.
//
// Of a secret with a target nothing goes until the current version has worked there: should it not, an older one may be all that does. That is
// what a prober wrote down, and nothing vouches for it: who forges it has versions removed that are no longer valid.
func (r *Rotations) purgeSecret(ctx context.Context, id uuid.UUID, name string) (removed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	a := r.own(ActionPurge, name)
	var made *lockedSecret
	err = r.change(ctx, a, func(ctx context.Context, tx *postgres.Tx) error {
		l, err := a.lock(ctx, tx, name)
		if err != nil {
			return err
		}
		if l.ID != id {
			return errNothingEnded
		}
		if err := a.readVersions(ctx, tx, l); err != nil {
			return err
		}
		if l.Target != nil {
			proven, err := tx.ProvenAtTarget(ctx, db.ProvenAtTargetParams{SecretID: l.ID, VersionUid: l.uid()})
			if err == nil && !proven {
				err = errNothingEnded
			}
			if err != nil {
				return err
			}
		}
		if err := l.purge(ctx, tx); err != nil {
			return err
		}
		if l.removed == 0 {
			return errNothingEnded
		}
		made = l
		a.noteSecret(l.ID, l.Revision+1, l.CurrentVersion)
		a.noteRemoved(l.removed)
		return l.advance(ctx, tx, r.v.keys)
	})
	switch {
	case err == nil:
		r.v.seen.made(&made.VaultSecret)
		r.house.purged.Add(float64(made.removed))
		return made.removed, nil
	case errors.Is(err, errNothingEnded), errors.Is(err, errNoSecret):
		return 0, nil
	}
	return 0, err
}

// purge removes every superseded version whose grace has ended by the transaction's time. What may be live at a target, pending and abandoned
// versions, stays, and so does the current one. advance has still to follow.
func (l *lockedSecret) purge(ctx context.Context, tx *postgres.Tx) error {
	var old []int64
	l.versions = slices.DeleteFunc(l.versions, func(v db.VersionsRow) bool {
		ended := v.State == string(secret.Superseded) && !secret.Valid(secret.Superseded, v.ExpiresAt, l.now)
		if ended {
			old = append(old, v.Version)
		}
		return ended
	})
	if l.removed = len(old); l.removed == 0 {
		return nil
	}
	return exactly(l.removed)(tx.RemoveEndedVersions(ctx, db.RemoveEndedVersionsParams{SecretID: l.ID, Versions: old}))
}

const (
	sweepKeepDays = 30
	sweepBatch    = 1000
	sweepBatches  = 20 // of each kind in one sweep; the rest waits for the next
)

// sweep removes what is of no use any more: jobs that were completed long ago, and what let somebody repeat a request, or fetch, and has expired. None
// of it grants anything, nor is any of it a secret's state, so that nothing is verified and no record tells of it.
func (r *Rotations) sweep(ctx context.Context) error {
	q := r.v.db
	for _, remove := range []func() (int64, error){
		func() (int64, error) {
			return q.SweepJobs(ctx, db.SweepJobsParams{KeepDays: sweepKeepDays, MaxRows: sweepBatch})
		},
		func() (int64, error) { return q.SweepIdempotencyKeys(ctx, sweepBatch) },
		func() (int64, error) { return q.SweepFetches(ctx, sweepBatch) },
	} {
		for range sweepBatches {
			n, err := remove()
			if err != nil {
				return postgres.Fault(err)
			}
			if n < sweepBatch {
				break
			}
		}
	}
	return nil
}

// untilExpiry tells how long it is until the next version's grace ends, at most a minute.
func (r *Rotations) untilExpiry(ctx context.Context) (time.Duration, error) {
	secs, err := r.v.db.NextExpiry(ctx)
	if err != nil {
		return 0, postgres.Fault(err)
	}
	return time.Duration(min(secs, purgeMost.Seconds()) * float64(time.Second)), nil
}
