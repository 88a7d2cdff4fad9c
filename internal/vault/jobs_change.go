package vault

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

var (
	errJobOver    = fault.New(fault.Conflict, "the job is over: POST …/rotate asks for another one").WithCode("job_over")
	errJobRunning = fault.New(fault.Conflict, "a rotator is at this job right now: wait for what becomes of it").WithCode("job_running")
	errJobDead    = fault.New(fault.Conflict, "a job of this secret is dead and has to be seen to first: retry or cancel it").WithCode("job_dead")
	errJobApplies = fault.New(fault.Conflict, "the target may be getting the job's value right now: wait until the job is over or dead").
			WithCode("rotation_in_progress")
)

// RetryJob lets a job that is dead, or waits after a failure, run at once, as if for the first time.
func (v *Vault) RetryJob(ctx context.Context, c Caller, id uuid.UUID) (*JobView, error) {
	return v.changeJob(ctx, c, ActionRotationRetry, id, func(ctx context.Context, a *attempt, tx *postgres.Tx, l *lockedSecret, j *db.OpenJobRow) error {
		if j.DeadAt == nil && j.LeaseExpiresAt != nil && j.LeaseExpiresAt.After(l.now) {
			return errJobRunning
		}
		a.version = l.CurrentVersion
		if err := exactly(1)(tx.RetryJob(ctx, id)); err != nil {
			return err
		}
		return tx.WakeRotators(ctx)
	})
}

// CancelJob ends a job that isn't handing a value to its target. A version that it prepared is abandoned, and stays until a newer one is
// proven, because the target may have it from before; the secret moves on to when its schedule has it due next.
func (v *Vault) CancelJob(ctx context.Context, c Caller, id uuid.UUID) (*JobView, error) {
	return v.changeJob(ctx, c, ActionRotationCancel, id, func(ctx context.Context, a *attempt, tx *postgres.Tx, l *lockedSecret, j *db.OpenJobRow) error {
		if j.Step == StepApplying && j.DeadAt == nil {
			return errJobApplies
		}
		if err := a.readVersions(ctx, tx, l); err != nil {
			return err
		}
		if pending := l.pending(); pending != nil {
			if len(l.versions) >= maxKept {
				return errTooManyKept
			}
			a.note("abandoned_version", pending.Version)
			if err := a.abandon(ctx, tx, l); err != nil {
				return err
			}
		}
		if l.NextRotationAt != nil && !l.NextRotationAt.After(l.now) {
			p, err := planOf(&l.VaultSecret)
			if err != nil {
				return a.alarm(ctx, l.Name, nil, err)
			}
			l.NextRotationAt = p.next(l) // else it would be made anew at once
		}
		a.noteSecret(l.ID, l.Revision+1, l.CurrentVersion)
		if err := l.advance(ctx, tx, a.vault.keys); err != nil {
			return err
		}
		outcome := outcomeCancelled
		return exactly(1)(tx.CancelJob(ctx, db.CancelJobParams{ID: id, Outcome: &outcome}))
	})
}

// changeJob changes a job that isn't over, under its secret's lock, for who may rotate that secret, and gives what it has become.
func (v *Vault) changeJob(
	ctx context.Context, c Caller, action string, id uuid.UUID,
	change func(context.Context, *attempt, *postgres.Tx, *lockedSecret, *db.OpenJobRow) error,
) (*JobView, error) {
	op := operation{action: action, rule: needsToken, detail: map[string]any{"job_id": id}}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*JobView, error) {
		before, err := a.job(ctx, id)
		if err != nil {
			return nil, err
		}
		if !a.who.rules.Allows(access.Rotate, before.Secret) {
			return nil, denied("the token's role doesn't allow rotate on the job's secret")
		}
		var (
			view   *JobView
			locked *lockedSecret
		)
		err = a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
			l, err := a.lock(ctx, tx, before.Secret)
			if errors.Is(err, errNoSecret) {
				return errNoJob // it went with its secret
			}
			if err != nil {
				return err
			}
			job, err := openJob(ctx, tx, l)
			if err != nil {
				return err
			}
			if job == nil || job.ID != id {
				return errJobOver
			}
			a.note("reason", cut(&job.Reason))
			if err := change(ctx, a, tx, l, job); err != nil {
				return err
			}
			locked = l
			row, err := tx.JobByID(ctx, id)
			if err != nil {
				return err
			}
			view = viewJob(&row.VaultRotationJob, l.Name, row.Running)
			return nil
		})
		if err != nil {
			return nil, err
		}
		v.seen.made(&locked.VaultSecret)
		return view, nil
	})
}
