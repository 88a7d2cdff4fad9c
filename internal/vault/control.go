package vault

import (
	"context"
	"errors"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// RotationStatus tells how rotation is.
type RotationStatus struct {
	// Paused tells that rotators make nothing. What the API makes by itself, rotations and rollbacks of secrets without a target, it
	// makes all the same.
	Paused bool
	// Verified tells that what says so is as the vault wrote it. If it isn't, rotators make nothing, and Paused is set.
	Verified  bool
	ChangedAt *time.Time // when all was paused or resumed last; nil if it never was
	RotationTotals
}

// RotationTotals counts the work of rotation.
type RotationTotals struct {
	Open            int64 // jobs that wait or run
	Running         int64 // of these, those that a rotator is at
	Dead            int64 // jobs that somebody has to see to
	OldestDueSecs   int64 // for how long something has been due that isn't done, at most; 0 if nothing is
	Drifted         int64 // secrets whose target no longer takes the current value
	ExpiredVersions int64 // versions whose grace has ended and that are still stored
}

// Rotation tells how rotation is, and whether all of it is paused.
func (v *Vault) Rotation(ctx context.Context, c Caller) (*RotationStatus, error) {
	op := operation{action: ActionRotationRead, rule: needsAdmin}
	return pass(ctx, v, c, op, func(ctx context.Context, _ *attempt) (*RotationStatus, error) { return v.rotationStatus(ctx) })
}

// PauseAll has rotators claim nothing more until ResumeAll. What a rotator has claimed is finished.
func (v *Vault) PauseAll(ctx context.Context, c Caller) (*RotationStatus, error) {
	return v.setPaused(ctx, c, ActionPauseAll, true)
}

// ResumeAll has rotators work again.
func (v *Vault) ResumeAll(ctx context.Context, c Caller) (*RotationStatus, error) {
	return v.setPaused(ctx, c, ActionResumeAll, false)
}

// rotationStatus shows what doesn't verify as such: whoever looks for what is wrong has to see the rest, too.
func (v *Vault) rotationStatus(ctx context.Context) (*RotationStatus, error) {
	s := &RotationStatus{Verified: true}
	row, err := v.control(ctx)
	if errors.Is(err, errDamaged) {
		v.alarmControl(ctx, ActionRotationRead, err)
		s.Paused, s.Verified, row, err = true, false, nil, nil
	}
	if err != nil {
		return nil, err
	}
	if row != nil {
		s.Paused, s.ChangedAt = row.Paused, &row.ChangedAt
	}
	totals, err := v.db.RotationTotals(ctx)
	if err != nil {
		return nil, err
	}
	s.RotationTotals = RotationTotals{
		Open: totals.Open, Running: totals.Running, Dead: totals.Dead, OldestDueSecs: int64(totals.OldestDueSecs),
		Drifted: totals.Drifted, ExpiredVersions: totals.ExpiredVersions,
	}
	return s, nil
}

// control reads what pauses all rotation; nil says that it never was. What doesn't verify is damage.
func (v *Vault) control(ctx context.Context) (*db.RotationControlRow, error) {
	floor := v.controlSeen.Load() // what becomes known while it is read may be newer than it
	row, err := v.db.RotationControl(ctx)
	if postgres.IsNotFound(err) {
		if floor > 0 {
			return nil, damagedControl(errVanish)
		}
		return nil, nil //nolint:nilnil // it never was
	}
	if err != nil {
		return nil, postgres.Fault(err)
	}
	if err := v.checkControl(ctx, &row, floor); err != nil {
		return nil, err
	}
	return &row, nil
}

// checkControl verifies the row that pauses all rotation, which was read after floor was known.
func (v *Vault) checkControl(ctx context.Context, row *db.RotationControlRow, floor int64) error {
	control := integrity.RotationControl{Paused: row.Paused, Revision: row.Revision, ChangedAt: row.ChangedAt}
	err := v.keys.Check(control, row.Mac, row.KeyID)
	if errors.Is(err, integrity.ErrUnknownKey) || errors.Is(err, integrity.ErrRetired) {
		if err := v.refreshKeys(ctx); err != nil {
			return err
		}
		err = v.keys.Check(control, row.Mac, row.KeyID)
	}
	if err == nil && row.Revision < floor {
		err = errPutBack
	}
	if err != nil {
		return damagedControl(err)
	}
	v.raiseControl(row.Revision)
	return nil
}

// raiseControl notes a revision that was verified, or is committed: what is older is never taken again.
func (v *Vault) raiseControl(revision int64) {
	for known := v.controlSeen.Load(); known < revision; known = v.controlSeen.Load() {
		if v.controlSeen.CompareAndSwap(known, revision) {
			return
		}
	}
}

func damagedControl(err error) error { return damaged("row", "vault.rotation_control", err) }

func (v *Vault) alarmControl(ctx context.Context, action string, err error) {
	v.metrics.integrity.WithLabelValues(action).Inc()
	v.log.ErrorContext(ctx, "integrity alarm: what says whether rotation is paused doesn't verify: nothing is rotated", "action", action, "error", err)
}

// setPaused says whether all rotation is paused. An administrator's word is also what mends a row that doesn't verify: it grants
// nobody anything, and without it nothing would rotate any more.
func (v *Vault) setPaused(ctx context.Context, c Caller, action string, paused bool) (*RotationStatus, error) {
	op := operation{action: action, rule: needsAdmin}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*RotationStatus, error) {
		var made int64
		err := retryRaced(ctx, func() error {
			return a.change(ctx, func(ctx context.Context, tx *postgres.Tx) (err error) {
				if made, err = v.writeControl(ctx, a, tx, paused); err != nil || paused {
					return err
				}
				return tx.WakeRotators(ctx)
			})
		})
		if err != nil {
			return nil, err
		}
		v.raiseControl(made)
		return v.rotationStatus(ctx)
	})
}

// writeControl gives the revision that it wrote. In the place of a row that is missing, or doesn't verify, it writes one that is newer
// than any that was counted, as whatever that said of its own revision says nothing.
func (v *Vault) writeControl(ctx context.Context, a *attempt, tx *postgres.Tx, paused bool) (int64, error) {
	floor := v.controlSeen.Load()
	row, err := tx.LockRotationControl(ctx)
	missing := postgres.IsNotFound(err)
	if err != nil && !missing {
		return 0, err
	}
	now := v.trail.DatabaseTime().Truncate(time.Microsecond)
	next := integrity.RotationControl{Paused: paused, Revision: now.UnixMicro(), ChangedAt: now}
	if missing {
		err = nil
		if floor > 0 {
			err = damagedControl(errVanish)
		}
	} else {
		err = v.checkControl(ctx, &db.RotationControlRow{
			Paused: row.Paused, Revision: row.Revision, ChangedAt: row.ChangedAt, Mac: row.Mac, KeyID: row.KeyID,
		}, floor)
		next.ChangedAt = row.ReadAt
	}
	switch {
	case errors.Is(err, errDamaged):
		v.alarmControl(ctx, a.op.action, err)
		a.note("replaced_unverifiable", true)
		next.Revision = max(next.Revision, floor+1)
	case err != nil:
		return 0, err
	case !missing:
		next.Revision = row.Revision + 1
	}
	mac, keyID, err := v.keys.MAC(next)
	if err != nil {
		return 0, fault.Wrap(fault.Internal, err, "")
	}
	a.note("revision", next.Revision)
	if missing {
		n, err := tx.InsertRotationControl(ctx, db.InsertRotationControlParams{
			Paused: paused, Revision: next.Revision, ChangedAt: next.ChangedAt, Mac: mac, KeyID: &keyID,
		})
		if err == nil && n == 0 {
			err = errRaced // somebody else was the first
		}
		return next.Revision, err
	}
	return next.Revision, exactly(1)(tx.UpdateRotationControl(ctx, db.UpdateRotationControlParams{
		Paused: paused, Revision: next.Revision, ChangedAt: next.ChangedAt, Mac: mac, KeyID: &keyID,
	}))
}
