package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

var (
	// errOvertaken says that a job's secret is no longer as it was when it fell due.
	errOvertaken = errors.New("the secret was changed since the job was made")
	// errMissed says that the window in which the secret was to rotate is over.
	errMissed = errors.New("the window has passed")
	// ErrRetargeted says that the secret got a target, or lost it, since the job was claimed.
	ErrRetargeted = errors.New("the secret's target was changed since the job was claimed")
)

// How a job ends that rotated nothing.
const (
	outcomeSuperseded = "superseded"
	outcomeMissed     = "missed"
	outcomeRotated    = "rotated"
	outcomeRepaired   = "repaired"
	outcomeUnneeded   = "unneeded"
	outcomeCancelled  = "cancelled"
)

// Rotate rotates a secret that has no target: the new version, and the end of the job, in one transaction. Without a target nothing lies between
// preparing a version and promoting it.
func (r *Rotations) Rotate(ctx context.Context, j *Job) error {
	err := retryRaced(ctx, func() error { return r.rotateOnce(ctx, j) })
	_, err = r.settle(ctx, j, err)
	return err
}

func (r *Rotations) rotateOnce(ctx context.Context, j *Job) (err error) {
	work, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	a := r.attempt(ActionRotate, j)
	defer func() { err = r.tell(ctx, a, err) }()
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
		if l.Target != nil {
			return ErrRetargeted
		}
		plan, err := a.due(ctx, l, j)
		if err != nil {
			return err
		}
		if err := l.supersede(ctx, tx, r.v.keys, sealed, secret.Seconds(l.GracePeriodSecs)); err != nil {
			return l.waits(err)
		}
		l.NextRotationAt = plan.next(l)
		made = l
		a.noteSecret(l.ID, l.Revision+1, l.CurrentVersion)
		a.noteRemoved(l.removed)
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

// settle ends a job that has nothing left to do, which it tells, and lets other errors pass.
func (r *Rotations) settle(ctx context.Context, j *Job, err error) (over bool, _ error) {
	switch {
	case errors.Is(err, errNoSecret):
		return true, ErrClaimLost // the job went with it
	case errors.Is(err, errOvertaken):
		return true, r.end(ctx, j, outcomeSuperseded)
	case errors.Is(err, errMissed):
		return true, r.skip(ctx, j)
	}
	return false, err
}

// waits is what ErrTooManyVersions means to a rotation: it waits until there is room.
func (l *lockedSecret) waits(err error) error {
	if !errors.Is(err, ErrTooManyVersions) {
		return err
	}
	var until *time.Time
	for _, v := range l.graced() {
		if until == nil || v.ExpiresAt.Before(*until) {
			until = v.ExpiresAt
		}
	}
	if until == nil {
		return err
	}
	return &WaitError{Until: *until}
}

// next looks at the secret and makes the material of its next version. The caller releases it.
func (r *Rotations) next(ctx context.Context, a *attempt, j *Job) (secret.Material, base, error) {
	row, err := a.find(ctx, j.Secret)
	if err != nil {
		return secret.Material{}, base{}, err
	}
	if _, err := dueOf(&row.VaultSecret, j, r.v.trail.DatabaseTime()); err != nil {
		return secret.Material{}, base{}, a.alarm(ctx, row.Name, nil, err)
	}
	on, err := baseOf(row)
	if err != nil {
		return secret.Material{}, base{}, a.alarm(ctx, row.Name, &row.CurrentVersion, err)
	}
	m, err := r.v.regenerate(ctx, a, row)
	if err != nil {
		return secret.Material{}, base{}, err
	}
	if err := a.alternate(ctx, row, &m); err != nil {
		m.Release()
		return secret.Material{}, base{}, err
	}
	return m, on, nil
}

// alternate gives the material the name of the role whose turn it is, at a target that has two.
func (a *attempt) alternate(ctx context.Context, row *sealedSecret, m *secret.Material) error {
	if row.Target == nil {
		return nil
	}
	t, err := secret.DecodeTarget(row.Target)
	if err != nil {
		return a.alarm(ctx, row.Name, nil, damaged("secret", row.Name, err))
	}
	if t.Postgres == nil || t.Postgres.Mode != secret.ModeAlternating {
		return nil
	}
	roles := t.Postgres.Usernames
	at := slices.Index(roles, string(m.Username.Reveal()))
	if at < 0 {
		return fault.New(fault.Invalid, "the current username is neither of the target's two: put the username and password of one of them").
			WithCode("bad_target")
	}
	m.Username.Release()
	m.Username = sensitive.Copy([]byte(roles[1-at]))
	return nil
}

// plan is what a secret is told about its rotation.
type plan struct {
	secret.Rotation
	schedule secret.Schedule
}

// planOf reads it from a secret's row, which was verified.
func planOf(s *db.VaultSecret) (plan, error) {
	settings, err := secret.DecodeRotation(s.Rotation)
	if err != nil {
		return plan{}, damaged("secret", s.Name, err)
	}
	p := plan{Rotation: settings, schedule: settings.Schedule}
	if s.RotationIntervalSecs != nil {
		p.schedule.Interval = secret.Seconds(*s.RotationIntervalSecs)
	}
	return p, nil
}

// next is when a secret that has just rotated is due again; nil is never.
func (p *plan) next(l *lockedSecret) *time.Time { return p.after(l.now, l.ID) }

func (p *plan) after(now time.Time, id uuid.UUID) *time.Time {
	if p.Paused || p.schedule == (secret.Schedule{}) {
		return nil
	}
	next := p.schedule.Next(now, id)
	if next.IsZero() {
		return nil
	}
	return &next
}

// dueOf tells whether a job's secret is due as the job says. The secret's row decides; a job that somebody made up is overtaken.
func dueOf(s *db.VaultSecret, j *Job, now time.Time) (plan, error) {
	p, err := planOf(s)
	switch {
	case err != nil:
		return p, err
	case s.ID != j.SecretID || s.CurrentVersion != j.BaseVersion || s.NextRotationAt == nil || !s.NextRotationAt.Equal(j.DueAt) || s.NextRotationAt.After(now):
		return p, errOvertaken
	case j.Reason == ReasonScheduled && p.schedule.MissedWindow(*s.NextRotationAt, now, s.ID):
		return p, errMissed
	}
	return p, nil
}

// due is dueOf under the row's lock.
func (a *attempt) due(ctx context.Context, l *lockedSecret, j *Job) (plan, error) {
	p, err := dueOf(&l.VaultSecret, j, l.now)
	return p, a.alarm(ctx, l.Name, nil, err)
}

// skip moves a secret whose window has passed to its next one.
func (r *Rotations) skip(ctx context.Context, j *Job) error {
	a := r.attempt(ActionRotationSkip, j)
	var made *lockedSecret
	err := r.change(ctx, a, func(ctx context.Context, tx *postgres.Tx) error {
		l, err := a.lock(ctx, tx, j.Secret)
		if err != nil {
			return err
		}
		p, err := a.due(ctx, l, j)
		if err == nil || !errors.Is(err, errMissed) {
			if err == nil {
				err = fmt.Errorf("%w: its window opened again", errRaced)
			}
			return err
		}
		if err := a.readVersions(ctx, tx, l); err != nil {
			return err
		}
		l.NextRotationAt = p.next(l)
		made = l
		a.noteSecret(l.ID, l.Revision+1, l.CurrentVersion)
		if err := l.advance(ctx, tx, r.v.keys); err != nil {
			return err
		}
		return complete(ctx, tx, j, outcomeMissed)
	})
	if err == nil {
		r.v.seen.made(&made.VaultSecret)
	}
	if errors.Is(err, errOvertaken) {
		return r.end(ctx, j, outcomeSuperseded)
	}
	return err
}

func complete(ctx context.Context, tx *postgres.Tx, j *Job, outcome string) error {
	return mine(tx.CompleteJob(ctx, db.CompleteJobParams{ID: j.ID, ClaimID: &j.Claim, Outcome: &outcome}))
}
