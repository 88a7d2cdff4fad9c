package vault

import (
	"context"
	"fmt"
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
	return r.Description.Set || r.RotationIntervalSecs.Set || r.GracePeriodSecs.Set || r.CustomMetadata.Set
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
	sealed, equal, err := v.sealChange(ctx, a, row, r.Given)
	if err != nil {
		return nil, err
	}
	a.version, a.records = on.version, nil
	if sealed != nil {
		a.version = on.version + 1
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
		if sealed != nil {
			if err := locked.supersede(ctx, tx, v.keys, sealed, settings.GracePeriod); err != nil {
				return err
			}
		}
		locked.take(settings, sealed != nil)
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
		updated.Version, updated.ETag = on.version+1, secret.ETag(on.version+1, sealed.uid)
	}
	return updated, nil
}

// sealChange seals the given material as the next version. equal tells that it is the current one's and the caller may know;
// without given material it does nothing.
func (v *Vault) sealChange(ctx context.Context, a *attempt, row *sealedSecret, g Given) (sealed *sealedVersion, equal bool, err error) {
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
	if a.mayRead() && next.Equal(*current) {
		return nil, true, nil
	}
	sealed, err = v.seal(ctx, row.ID, row.Name, row.CurrentVersion+1, next)
	return sealed, false, err
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
	return settingsOf(secret.Kind(row.Kind), description, interval, grace, metadata)
}

// take gives the secret other settings. A new version is due an interval from now, and so is one whose interval changed; else the due
// time stays.
func (l *lockedSecret) take(s secret.Settings, renewed bool) {
	interval := wholeSecondsOf(s.RotationInterval)
	same := interval == nil && l.RotationIntervalSecs == nil ||
		interval != nil && l.RotationIntervalSecs != nil && *interval == *l.RotationIntervalSecs
	if renewed || !same {
		l.NextRotationAt = after(l.now, s.RotationInterval)
	}
	l.Description, l.RotationIntervalSecs, l.GracePeriodSecs = s.Description, interval, int64(s.GracePeriod/time.Second)
	l.CustomMetadata = secret.EncodeCustomMetadata(s.CustomMetadata)
}

// metadata describes the secret as it is about to be stored.
func (l *lockedSecret) metadata(s secret.Settings) *Metadata {
	return &Metadata{
		Name: l.Name, Kind: s.Kind, Format: secret.Format(l.Format), Description: l.Description,
		RotationIntervalSecs: l.RotationIntervalSecs, GracePeriodSecs: l.GracePeriodSecs,
		NextRotationAt: l.NextRotationAt, CustomMetadata: s.CustomMetadata, CreatedAt: l.CreatedAt, UpdatedAt: l.now,
	}
}
