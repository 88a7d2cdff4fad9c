package vault

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// queue makes a targeted secret due now, by a job that a rotator takes up. It says so in the secret's own row, which is MACed: the job by
// itself would rotate nothing.
func (v *Vault) queue(ctx context.Context, a *attempt, o *once) (*Rotated, error) {
	made, view, err := v.withJob(ctx, a, o, func(ctx context.Context, tx *postgres.Tx, l *lockedSecret, id uuid.UUID) (uuid.UUID, error) {
		if l.Target == nil {
			return id, errRaced // it lost it
		}
		job, err := openJob(ctx, tx, l)
		if err != nil {
			return id, err
		}
		if job != nil {
			if job.DeadAt != nil {
				return id, errJobDead
			}
			a.noteJob(job.ID, cut(&job.Reason), outcomeUnchanged)
			return job.ID, nil
		}
		p, err := planOf(&l.VaultSecret)
		if err != nil {
			return id, a.alarm(ctx, l.Name, nil, err)
		}
		base := l.CurrentVersion
		l.renew(&p)
		l.NextRotationAt = &l.now
		a.noteSecret(l.ID, l.Revision+1, l.CurrentVersion)
		a.noteJob(id, ReasonManual, outcomeOK)
		if err := l.store(ctx, tx, v.keys); err != nil {
			return id, err
		}
		return id, inserted(tx.InsertJob(ctx, db.InsertJobParams{
			ID: id, SecretID: l.ID, Reason: ReasonManual, DueAt: l.now, BaseVersion: base,
		}))
	})
	if err != nil {
		return nil, err
	}
	v.seen.made(&made.VaultSecret)
	return &Rotated{Job: view}, nil
}

// withJob runs a change of a locked secret that makes a job, of the id that it is given, or finds one, whose id it returns; and wakes the
// rotators in the same transaction.
func (v *Vault) withJob(
	ctx context.Context, a *attempt, o *once, change func(context.Context, *postgres.Tx, *lockedSecret, uuid.UUID) (uuid.UUID, error),
) (made *lockedSecret, view *JobView, err error) {
	id, err := uuid.NewRandomFromReader(v.cfg.Random)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Internal, fmt.Errorf("making a job's id: %w", err), "")
	}
	err = a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
		if err := o.take(ctx, tx); err != nil {
			return err
		}
		l, err := a.lock(ctx, tx, a.op.name)
		if err != nil {
			return err
		}
		if err := a.readVersions(ctx, tx, l); err != nil {
			return err
		}
		job, err := change(ctx, tx, l, id)
		if err != nil {
			return err
		}
		row, err := tx.JobByID(ctx, job)
		if err != nil {
			return err
		}
		made, view = l, viewJob(&row.VaultRotationJob, l.Name, row.Running)
		if err := o.keep(ctx, tx, l.ID, nil, &job); err != nil {
			return err
		}
		return tx.WakeRotators(ctx)
	})
	return made, view, err
}

// noteJob has the attempt recorded as what it came to: a job that is queued, or was already.
func (a *attempt) noteJob(id uuid.UUID, reason, outcome string) {
	a.note("job_id", id)
	a.note("reason", reason)
	a.records = []audit.Record{a.recordFor(ActionRotationQueue, a.op.name, a.version, outcome)}
}

// inserted tells whether a job could be made. Another one can't have come meanwhile but from who doesn't lock the secret first.
func inserted(rows int64, err error) error {
	if err == nil && rows == 0 {
		return errRaced
	}
	return err
}
