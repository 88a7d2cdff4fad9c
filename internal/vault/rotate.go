package vault

import (
	"context"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// Rotate gives an automatic secret a newly generated value at once. The answer holds it only if the caller may also read it.
func (v *Vault) Rotate(ctx context.Context, c Caller, name string) (*Secret, error) {
	parsed, err := secret.ParseName(name)
	if err != nil {
		return nil, err
	}
	op := operation{action: ActionRotate, rule: needsRight, right: access.Rotate, name: parsed.String()}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*Secret, error) {
		var rotated *Secret
		err := retryRaced(ctx, func() error {
			var err error
			rotated, err = v.rotateOnce(ctx, a)
			return err
		})
		return rotated, err
	})
}

func (v *Vault) rotateOnce(ctx context.Context, a *attempt) (*Secret, error) {
	row, err := a.find(ctx, a.op.name)
	if err != nil {
		return nil, err
	}
	if row.Kind != string(secret.Automatic) {
		return nil, fault.New(fault.Conflict, "only automatic secrets rotate: PUT a new value instead").WithCode("not_automatic")
	}
	on, err := baseOf(row)
	if err != nil {
		return nil, a.alarm(ctx, row.Name, &row.CurrentVersion, err)
	}
	next, err := v.regenerate(ctx, a, row)
	if err != nil {
		return nil, err
	}
	sealed, err := v.seal(ctx, row.ID, row.Name, on.next, next)
	if err != nil {
		next.Release()
		return nil, err
	}
	disclosed := a.mayRead()
	a.version = on.next
	a.note("disclosed", disclosed)
	var made *lockedSecret
	err = a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
		locked, err := a.lockBase(ctx, tx, a.op.name, on)
		if err != nil {
			return err
		}
		if err := locked.supersede(ctx, tx, v.keys, sealed, secret.Seconds(locked.GracePeriodSecs)); err != nil {
			return err
		}
		p, err := planOf(&locked.VaultSecret)
		if err != nil {
			return a.alarm(ctx, locked.Name, nil, err)
		}
		locked.NextRotationAt = p.next(locked)
		made = locked
		a.noteSecret(locked.ID, locked.Revision+1, locked.CurrentVersion)
		a.noteRemoved(locked.removed)
		return locked.advance(ctx, tx, v.keys)
	})
	if err != nil {
		next.Release()
		return nil, err
	}
	v.seen.made(&made.VaultSecret)
	s := &Secret{
		Name: row.Name, Kind: secret.Automatic, Format: next.Format, Version: on.next, VersionUID: sealed.uid,
		CreatedAt: made.now,
	}
	if !disclosed {
		next.Release()
		return s, nil
	}
	s.Material = &next
	return s, nil
}

// regenerate makes the next material: the same user name, a new value.
func (v *Vault) regenerate(ctx context.Context, a *attempt, row *sealedSecret) (secret.Material, error) {
	next := secret.Material{Format: secret.Format(row.Format)}
	if next.Format == secret.Userpass {
		current, err := v.openCurrent(ctx, row)
		if err != nil {
			return secret.Material{}, a.alarm(ctx, row.Name, &row.CurrentVersion, err)
		}
		defer current.Release()
		next.Username = current.Username.Clone()
	}
	p, err := planOf(&row.VaultSecret)
	if err != nil {
		next.Release()
		return secret.Material{}, a.alarm(ctx, row.Name, nil, err)
	}
	value, err := v.generate(p.Policy)
	if err != nil {
		next.Release()
		return secret.Material{}, err
	}
	next.Value = value
	return next, nil
}
