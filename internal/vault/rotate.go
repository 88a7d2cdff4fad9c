package vault

import (
	"context"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// Rotate gives an automatic secret a newly generated value: at once or, if it has a target, by a job that a rotator takes up. A job that
// is open already is the one. The answer holds the value only if the caller may also read it.
func (v *Vault) Rotate(ctx context.Context, c Caller, r RotateRequest) (*Rotated, error) {
	parsed, err := secret.ParseName(r.Name)
	if err != nil {
		return nil, err
	}
	op := operation{action: ActionRotate, rule: needsRight, right: access.Rotate, name: parsed.String()}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*Rotated, error) {
		o, err := a.once(r.IdempotencyKey, nil)
		if err != nil {
			return nil, err
		}
		return o.do(ctx, func() (rotated *Rotated, err error) {
			err = retryRaced(ctx, func() error {
				rotated, err = v.rotateOnce(ctx, a, o)
				return err
			})
			return rotated, err
		})
	})
}

func (v *Vault) rotateOnce(ctx context.Context, a *attempt, o *once) (*Rotated, error) {
	row, err := a.find(ctx, a.op.name)
	if err != nil {
		return nil, err
	}
	if row.Kind != string(secret.Automatic) {
		return nil, fault.New(fault.Conflict, "only automatic secrets rotate: PUT a new value instead").WithCode("not_automatic")
	}
	if row.Target != nil {
		return v.queue(ctx, a, o)
	}
	on, err := baseOf(row)
	if err != nil {
		return nil, a.alarm(ctx, row.Name, &row.CurrentVersion, err)
	}
	next, err := v.regenerate(ctx, a, row)
	if err != nil {
		return nil, err
	}
	s, err := v.replaceNow(ctx, a, o, row, on, next, nil)
	if err != nil {
		return nil, err
	}
	return &Rotated{Secret: s}, nil
}

// replaceNow makes next the current version of a secret without a target, at once. It takes next, which is the answer's if the caller
// may read it. check looks at the secret once it is locked; it may be nil.
func (v *Vault) replaceNow(
	ctx context.Context, a *attempt, o *once, row *sealedSecret, on base, next secret.Material, check func(*lockedSecret) error,
) (*Secret, error) {
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
		if err := o.take(ctx, tx); err != nil {
			return err
		}
		locked, err := a.lockBase(ctx, tx, a.op.name, on)
		if err != nil {
			return err
		}
		if locked.Target != nil {
			return errRaced // it got one
		}
		if check != nil {
			if err := check(locked); err != nil {
				return err
			}
		}
		if err := locked.supersede(ctx, tx, v.keys, sealed, secret.Seconds(locked.GracePeriodSecs)); err != nil {
			return err
		}
		p, err := planOf(&locked.VaultSecret)
		if err != nil {
			return a.alarm(ctx, locked.Name, nil, err)
		}
		locked.renew(&p)
		made = locked
		a.noteSecret(locked.ID, locked.Revision+1, locked.CurrentVersion)
		a.noteRemoved(locked.removed)
		if err := locked.store(ctx, tx, v.keys); err != nil {
			return err
		}
		return o.keep(ctx, tx, locked.ID, &sealed.uid, nil)
	})
	if err != nil {
		next.Release()
		return nil, err
	}
	v.seen.made(&made.VaultSecret)
	s := &Secret{
		Name: row.Name, Kind: secret.Kind(row.Kind), Format: next.Format, Version: on.next, VersionUID: sealed.uid, CreatedAt: made.now,
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
