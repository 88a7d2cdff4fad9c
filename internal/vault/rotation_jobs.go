package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// capPeriod is the time that MaxPerMinute speaks of.
const capPeriod = time.Minute

// Enqueue makes jobs for at most limit secrets that are due and have none, and tells how many it made.
func (r *Rotations) Enqueue(ctx context.Context, limit int) (int, error) {
	made, err := r.v.db.EnqueueDue(ctx, int32(limit)) //nolint:gosec // some hundreds
	if err != nil {
		return 0, postgres.Fault(err)
	}
	if made > 0 {
		err = r.v.db.WakeRotators(ctx)
	}
	return int(made), postgres.Fault(err)
}

// ClaimRequest asks for jobs.
type ClaimRequest struct {
	Limit int
	Lease time.Duration // by the database's clock; whole seconds
	// MaxPerMinute bounds how many jobs all rotators together begin within a minute; 0 doesn't.
	MaxPerMinute int
}

// ErrPaused says that all rotation is paused.
var ErrPaused = errors.New("all rotation is paused")

// Claim takes jobs that may run, and with each a lease. While all rotation is paused it takes none, and is ErrPaused.
func (r *Rotations) Claim(ctx context.Context, q ClaimRequest) ([]Job, error) {
	switch paused, err := r.Paused(ctx); {
	case err != nil:
		return nil, err
	case paused:
		return nil, ErrPaused
	}
	claim, err := uuid.NewRandomFromReader(r.v.cfg.Random)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, fmt.Errorf("making a claim's id: %w", err), "")
	}
	actor := r.v.trail.Actor()
	params := db.ClaimJobsParams{
		MayStart: int64(q.Limit), MaxRows: int32(q.Limit), ClaimID: &claim, ClaimedBy: &actor, LeaseSecs: q.Lease.Seconds(), //nolint:gosec // some hundreds
	}
	var rows []db.ClaimJobsRow
	if q.MaxPerMinute == 0 {
		rows, err = r.v.db.ClaimJobs(ctx, params)
	} else {
		err = r.v.db.InTx(ctx, func(tx *postgres.Tx) error {
			if err := tx.LockStarts(ctx); err != nil {
				return err
			}
			started, err := tx.StartedSince(ctx, capPeriod.Seconds())
			if err != nil {
				return err
			}
			params.MayStart = max(0, min(params.MayStart, int64(q.MaxPerMinute)-started))
			rows, err = tx.ClaimJobs(ctx, params)
			return err
		})
	}
	if err != nil {
		return nil, postgres.Fault(err)
	}
	jobs := make([]Job, len(rows))
	for i, row := range rows {
		jobs[i] = Job{
			ID: row.ID, Claim: claim, SecretID: row.SecretID, Secret: row.Name, Reason: row.Reason, DueAt: row.DueAt, BaseVersion: row.BaseVersion,
			Attempt: int(row.Attempt), Step: row.Step, Targeted: row.Targeted,
		}
	}
	return jobs, nil
}

// Renew prolongs the leases of jobs, and gives those whose claims still hold.
func (r *Rotations) Renew(ctx context.Context, jobs []Job, lease time.Duration) (map[uuid.UUID]bool, error) {
	claims, ids := claimsOf(jobs)
	held, err := r.v.db.RenewClaims(ctx, db.RenewClaimsParams{LeaseSecs: lease.Seconds(), ClaimIds: claims, Ids: ids})
	if err != nil {
		return nil, postgres.Fault(err)
	}
	still := make(map[uuid.UUID]bool, len(held))
	for _, id := range held {
		still[id] = true
	}
	return still, nil
}

// GiveBack lets others claim at once what was claimed and not begun.
func (r *Rotations) GiveBack(ctx context.Context, jobs []Job) error {
	claims, ids := claimsOf(jobs)
	return postgres.Fault(r.v.db.ReleaseClaims(ctx, db.ReleaseClaimsParams{ClaimIds: claims, Ids: ids}))
}

func claimsOf(jobs []Job) (claims, ids []uuid.UUID) {
	for i := range jobs {
		claims, ids = append(claims, jobs[i].Claim), append(ids, jobs[i].ID)
	}
	return claims, ids
}

// Next tells how long until something is to be done, at most limit, by the database's clock. 0 is now.
func (r *Rotations) Next(ctx context.Context, limit time.Duration) (time.Duration, error) {
	secs, err := r.v.db.NextWork(ctx)
	if err != nil {
		return limit, postgres.Fault(err)
	}
	return max(0, min(limit, time.Duration(secs*float64(time.Second)))), nil
}

// mine tells whether a statement found the job under the caller's claim.
func mine(rows int64, err error) error {
	if err == nil && rows != 1 {
		return ErrClaimLost
	}
	return err
}

// end completes a job that rotated nothing, with why.
func (r *Rotations) end(ctx context.Context, j *Job, outcome string) error {
	a := r.attempt(ActionRotationEnd, j)
	a.outcome = outcome
	return r.change(ctx, a, func(ctx context.Context, tx *postgres.Tx) error {
		return mine(tx.CompleteJob(ctx, db.CompleteJobParams{ID: j.ID, ClaimID: &j.Claim, Outcome: &outcome}))
	})
}

// Postpone gives a job back until then; the attempt doesn't count.
func (r *Rotations) Postpone(ctx context.Context, j *Job, until time.Time) error {
	return postgres.Fault(mine(r.v.db.PostponeJob(ctx, db.PostponeJobParams{ID: j.ID, ClaimID: &j.Claim, Until: &until})))
}

// Later is Postpone for a while from now.
func (r *Rotations) Later(ctx context.Context, j *Job, pause time.Duration) error {
	return postgres.Fault(mine(r.v.db.PostponeJob(ctx, db.PostponeJobParams{ID: j.ID, ClaimID: &j.Claim, PauseSecs: pause.Seconds()})))
}

// Listen calls wake whenever somebody says that there are jobs, until ctx ends or the connection does.
func (r *Rotations) Listen(ctx context.Context, wake func()) error {
	return r.v.db.Listen(ctx, "vault_rotation", wake)
}

// Failure is what a job failed of.
type Failure struct {
	Class   string // one of the classes of package target, or the vault's own trouble
	Message string // for operators: no value, and nothing that the target said beyond its code
	Pause   time.Duration
	Dead    bool // it isn't tried again but by hand
	// Abandon gives the pending version up, because the target will never take it; the next attempt makes another one.
	Abandon bool
}

// maxFailure bounds a stored message, in bytes.
const maxFailure = 1024

// Fail records that an attempt failed, and gives the job back.
func (r *Rotations) Fail(ctx context.Context, j *Job, f Failure) error {
	a := r.attempt(ActionRotationFail, j)
	a.outcome = f.Class
	if f.Dead {
		a.outcome = outcomeDead
		a.note("class", f.Class)
	}
	message := f.Message[:min(len(f.Message), maxFailure)]
	a.note("message", message)
	return r.change(ctx, a, func(ctx context.Context, tx *postgres.Tx) error {
		if f.Abandon {
			l, err := a.lock(ctx, tx, j.Secret)
			if errors.Is(err, errNoSecret) {
				return ErrClaimLost
			}
			if err != nil {
				return err
			}
			if err := a.readVersions(ctx, tx, l); err != nil {
				return err
			}
			if l.pending() == nil {
				return errOvertaken
			}
			if err := a.abandon(ctx, tx, l); err != nil {
				return err
			}
			a.noteSecret(l.ID, l.Revision+1, l.CurrentVersion)
			a.records = []audit.Record{
				a.record(f.Class), a.recordFor(ActionRotationAbandon, j.Secret, l.CurrentVersion, outcomeOK),
			}
			if err := l.advance(ctx, tx, r.v.keys); err != nil {
				return err
			}
			if err := mine(tx.MoveJob(ctx, db.MoveJobParams{ID: j.ID, ClaimID: &j.Claim, Step: StepQueued})); err != nil {
				return err
			}
		}
		return mine(tx.FailJob(ctx, db.FailJobParams{
			ID: j.ID, ClaimID: &j.Claim, PauseSecs: f.Pause.Seconds(), Class: &f.Class, Error: &message, Dead: f.Dead,
		}))
	})
}

const outcomeDead = "dead"
