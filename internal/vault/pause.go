package vault

import (
	"context"
	"errors"
	"time"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// errNothingToDo ends a change that finds that all is as it should be.
var errNothingToDo = errors.New("there is nothing to change")

// Pause stops a secret's rotations on its schedule. A job that has not begun ends without having rotated anything; one that has
// prepared a value is not stopped. Pausing a paused secret changes nothing.
func (v *Vault) Pause(ctx context.Context, c Caller, name string) (*Metadata, error) {
	return v.schedule(ctx, c, ActionRotationPause, name, func(l *lockedSecret, s *secret.Settings) error {
		if s.Rotation.Paused {
			return errNothingToDo
		}
		s.Rotation.Paused, s.Rotation.PausedDue = true, l.NextRotationAt
		l.NextRotationAt = nil
		return nil
	})
}

// Resume lets a paused secret rotate again, when it was due. What fell due meanwhile is made up for at once, unless its schedule has it
// wait for the next window.
func (v *Vault) Resume(ctx context.Context, c Caller, name string) (*Metadata, error) {
	return v.schedule(ctx, c, ActionRotationResume, name, func(l *lockedSecret, s *secret.Settings) error {
		if !s.Rotation.Paused {
			return errNothingToDo
		}
		due := s.Rotation.PausedDue
		s.Rotation.Paused, s.Rotation.PausedDue = false, nil
		if l.NextRotationAt == nil { // else somebody has asked for a rotation, whose job compares the time
			l.NextRotationAt = l.resumed(s.Schedule(), due)
		}
		return nil
	})
}

// resumed is when a secret is due that was paused, and was due then.
func (l *lockedSecret) resumed(schedule secret.Schedule, due *time.Time) *time.Time {
	p := plan{schedule: schedule}
	switch current := l.current(); {
	case due == nil:
	case current != nil && current.CreatedAt.After(*due):
		// That rotation was under way when the secret was paused, and has been made since.
	case schedule.MissedWindow(*due, l.now, l.ID):
	default:
		return due
	}
	return p.next(l)
}

// schedule changes when a secret is due, for who may rotate it. Without a change it only describes the secret.
func (v *Vault) schedule(ctx context.Context, c Caller, action, name string, change func(*lockedSecret, *secret.Settings) error) (*Metadata, error) {
	parsed, err := secret.ParseName(name)
	if err != nil {
		return nil, err
	}
	op := operation{action: action, rule: needsRight, right: access.Rotate, name: parsed.String()}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*Metadata, error) {
		var (
			view *Metadata
			made *lockedSecret
		)
		err := a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
			l, err := a.lock(ctx, tx, op.name)
			if err != nil {
				return err
			}
			if l.Kind != string(secret.Automatic) {
				return fault.New(fault.Conflict, "only automatic secrets rotate on a schedule: there is nothing to pause").WithCode("not_automatic")
			}
			if err := a.readVersions(ctx, tx, l); err != nil {
				return err
			}
			settings, err := (UpdateRequest{}).merge(&l.VaultSecret)
			if err != nil {
				return a.alarm(ctx, l.Name, nil, err)
			}
			err = change(l, &settings)
			view, made = l.metadata(settings), l
			view.Version, view.ETag = l.CurrentVersion, secret.ETag(l.CurrentVersion, l.uid())
			if err != nil {
				view.UpdatedAt = l.UpdatedAt
				return err
			}
			l.Rotation = settings.Rotation.Encode()
			a.noteSecret(l.ID, l.Revision+1, l.CurrentVersion)
			return l.store(ctx, tx, v.keys)
		})
		if errors.Is(err, errNothingToDo) {
			a.version, a.outcome = view.Version, outcomeUnchanged
			return view, nil
		}
		if err != nil {
			return nil, err
		}
		v.seen.made(&made.VaultSecret)
		return view, nil
	})
}

// renew moves a secret that has just got another value to when its schedule has it due next. While it is paused it is due at no time,
// and that time is kept.
func (l *lockedSecret) renew(p *plan) {
	l.NextRotationAt = p.next(l)
	if !p.Paused {
		return
	}
	kept := p.Rotation
	kept.PausedDue = (&plan{schedule: p.schedule}).next(l)
	l.Rotation = kept.Encode()
}
