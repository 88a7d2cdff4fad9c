package vault

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// Update changes a secret in part. New material makes a new version; material equal to the current one makes none if the
// caller may read it anyway, and that comparison is recorded as a verify.
func (v *Vault) Update(ctx context.Context, c Caller, r UpdateRequest) (*Metadata, error) {
	name, err := secret.ParseName(r.Name)
	if err != nil {
		return nil, err
	}
	op := operation{action: ActionUpdate, rule: needsRight, right: access.Update, name: name.String()}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*Metadata, error) {
		if !r.Given.present() && !r.changesSettings() {
			return nil, fault.New(fault.Invalid, "there is nothing to change: send at least one field")
		}
		var updated *Metadata
		err := retryRaced(ctx, func() error {
			var err error
			updated, err = v.updateOnce(ctx, a, r)
			return err
		})
		return updated, err
	})
}

func (r UpdateRequest) changesSettings() bool {
	return r.Description.Set || r.RotationIntervalSecs.Set || r.Schedule.Set || r.PasswordPolicy.Set || r.LoginHosts.Set || r.Target.Set || r.GracePeriodSecs.Set || r.CustomMetadata.Set
}

func (v *Vault) updateOnce(ctx context.Context, a *attempt, r UpdateRequest) (*Metadata, error) {
	row, err := a.find(ctx, a.op.name)
	if err != nil {
		return nil, err
	}
	on, err := baseOf(row)
	if err != nil {
		return nil, a.alarm(ctx, row.Name, &row.CurrentVersion, err)
	}
	if err := r.Precondition.holds(on.version, on.uid); err != nil {
		return nil, err
	}
	planned, err := r.plan(ctx, a, &row.VaultSecret)
	if err != nil {
		return nil, err
	}
	sealed, equal, err := v.sealChange(ctx, a, row, r.Given, planned)
	if err != nil {
		return nil, err
	}
	a.version, a.records = on.version, nil
	if sealed != nil {
		a.version = on.next
	}

	var (
		updated *Metadata
		made    *lockedSecret
	)
	err = a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
		locked, err := a.lockBase(ctx, tx, a.op.name, on)
		if err != nil {
			return err
		}
		settings, err := r.merge(&locked.VaultSecret)
		if err != nil {
			return a.alarm(ctx, locked.Name, nil, err)
		}
		was, err := planOf(&locked.VaultSecret)
		if err != nil {
			return a.alarm(ctx, locked.Name, nil, err)
		}
		if !sameTarget(settings, planned) {
			return errRaced // what was allowed, and looked at, was another one
		}
		if locked.Target != nil && (sealed != nil || string(locked.Target) != string(settings.Target.Encode())) {
			if err := a.yield(ctx, tx, locked); err != nil {
				return err
			}
		}
		if sealed != nil && locked.Target != nil && len(locked.versions) >= maxKept {
			return errTooManyKept
		}
		if sealed != nil {
			if err := locked.supersede(ctx, tx, v.keys, sealed, settings.GracePeriod); err != nil {
				return err
			}
		}
		locked.take(settings, was.schedule, sealed != nil)
		updated, made = locked.metadata(settings), locked
		a.noteSecret(locked.ID, locked.Revision+1, locked.CurrentVersion)
		a.noteRemoved(locked.removed)
		if equal {
			a.records = []audit.Record{
				a.recordFor(ActionVerify, a.op.name, on.version, "match"),
				a.recordFor(ActionUpdate, a.op.name, on.version, outcomeUnchanged),
			}
		}
		return locked.store(ctx, tx, v.keys)
	})
	if err != nil {
		a.records = nil
		return nil, err
	}
	v.seen.made(&made.VaultSecret)
	updated.Version, updated.ETag = on.version, secret.ETag(on.version, on.uid)
	if sealed != nil {
		updated.Version, updated.ETag = on.next, secret.ETag(on.next, sealed.uid)
	}
	return updated, nil
}

// sealChange seals the given material as the next version. equal tells that it is the current one's and the caller may know;
// without given material it does nothing.
func (v *Vault) sealChange(ctx context.Context, a *attempt, row *sealedSecret, g Given, s secret.Settings) (sealed *sealedVersion, equal bool, err error) {
	if !g.present() {
		return nil, false, nil
	}
	partial := row.Format == string(secret.Userpass) && (g.Username.IsZero() || g.Password.IsZero())
	var current *secret.Material
	if partial || a.mayRead() {
		m, err := v.openCurrent(ctx, row)
		if err != nil {
			return nil, false, a.alarm(ctx, row.Name, &row.CurrentVersion, err)
		}
		defer m.Release()
		current = &m
	}
	next, err := changed(secret.Format(row.Format), g, current)
	if err != nil {
		return nil, false, err
	}
	defer next.Release()
	if err := suits(s, next); err != nil {
		return nil, false, err
	}
	if a.mayRead() && next.Equal(*current) {
		return nil, true, nil
	}
	sealed, err = v.seal(ctx, row.ID, row.Name, row.Next, next)
	return sealed, false, err
}

// plan is merge on what was looked up. What the request changes of a target is allowed and looked at here, before anything is locked.
func (r UpdateRequest) plan(ctx context.Context, a *attempt, row *db.VaultSecret) (secret.Settings, error) {
	before, err := (UpdateRequest{}).merge(row)
	if err != nil {
		return before, a.alarm(ctx, row.Name, nil, fmt.Errorf("%w: %w", errDamaged, err))
	}
	next, err := r.merge(row)
	if err != nil {
		return next, a.alarm(ctx, row.Name, nil, err)
	}
	if err := a.mayTarget(ctx, next, before); err != nil {
		return next, err
	}
	return next, a.mayName(next, r.Given)
}

// sameTarget tells whether two settings say the same of what is outside the vault.
func sameTarget(a, b secret.Settings) bool {
	return string(a.Target.Encode()) == string(b.Target.Encode()) && slices.Equal(a.Rotation.LoginHosts, b.Rotation.LoginHosts)
}

// merge lays the request's fields over what the locked row has.
func (r UpdateRequest) merge(row *db.VaultSecret) (secret.Settings, error) {
	metadata, err := secret.DecodeCustomMetadata(row.CustomMetadata)
	if err != nil {
		return secret.Settings{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	description, interval, grace := row.Description, row.RotationIntervalSecs, row.GracePeriodSecs
	if r.Description.Set {
		description = r.Description.Value
		if r.Description.Null {
			description = ""
		}
	}
	if r.RotationIntervalSecs.Set {
		interval = &r.RotationIntervalSecs.Value
		if r.RotationIntervalSecs.Null {
			interval = nil
		}
	}
	if r.GracePeriodSecs.Set {
		grace = r.GracePeriodSecs.Value
		if r.GracePeriodSecs.Null {
			grace = 0
		}
	}
	if r.CustomMetadata.Set {
		metadata = r.CustomMetadata.Value
		if r.CustomMetadata.Null {
			metadata = nil
		}
	}
	rotation, target, err := r.mergeRotation(row)
	if err != nil {
		return secret.Settings{}, err
	}
	settings, err := settingsOf(secret.Kind(row.Kind), description, interval, rotation, target, grace, metadata)
	if err == nil {
		err = settings.Target.Validate(secret.Format(row.Format), settings.GracePeriod)
	}
	return settings, err
}

// take gives the secret other settings. A new version is due when the schedule says, from now, and so is one whose schedule changed; else
// the due time stays. While the secret is paused it is due at no time, and that time is kept.
func (l *lockedSecret) take(s secret.Settings, before secret.Schedule, renewed bool) {
	if renewed || s.Schedule() != before {
		p := plan{schedule: s.Schedule()}
		next := p.next(l)
		if s.Rotation.Paused {
			s.Rotation.PausedDue, next = next, nil
		}
		l.NextRotationAt = next
	}
	l.Description, l.RotationIntervalSecs, l.GracePeriodSecs = s.Description, wholeSecondsOf(s.RotationInterval), int64(s.GracePeriod/time.Second)
	l.Rotation, l.Target = s.Rotation.Encode(), s.Target.Encode()
	l.CustomMetadata = secret.EncodeCustomMetadata(s.CustomMetadata)
}

// metadata describes the secret as it is about to be stored.
func (l *lockedSecret) metadata(s secret.Settings) *Metadata {
	return &Metadata{
		Name: l.Name, Kind: s.Kind, Format: secret.Format(l.Format), Description: l.Description,
		RotationIntervalSecs: l.RotationIntervalSecs, Rotation: s.Rotation, Target: s.Target, GracePeriodSecs: l.GracePeriodSecs,
		NextRotationAt: l.NextRotationAt, CustomMetadata: s.CustomMetadata, CreatedAt: l.CreatedAt, UpdatedAt: l.now,
	}
}
