package vault

import (
	"context"
	"errors"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// companion opens the secret that a target's change takes: the login that sets passwords, or the keys that sign.
func (r *Rotations) companion(ctx context.Context, a *attempt, d *Delivery) error {
	switch t := d.Target; {
	case t.Postgres != nil && t.Postgres.LoginSecret != "":
		s, err := a.companion(ctx, t.Postgres.LoginSecret, false)
		if err != nil {
			return err
		}
		if err := a.companionSuits(ctx, t, s); err != nil {
			return err
		}
		if d.Login, err = r.v.openCurrent(ctx, s); err != nil {
			return a.alarm(ctx, s.Name, &s.CurrentVersion, err)
		}
		a.note("login_secret", s.Name)
		a.note("login_version", s.CurrentVersion)
	case t.Webhook != nil:
		s, err := a.companion(ctx, t.Webhook.SigningSecret, true)
		if err != nil {
			return err
		}
		if err := a.companionSuits(ctx, t, s); err != nil {
			return err
		}
		now := r.v.trail.DatabaseTime()
		for i := range s.Versions {
			v := &s.Versions[i]
			if len(d.Keys) == maxSigningKeys || !secret.Valid(secret.State(v.State), v.ExpiresAt, now) {
				continue
			}
			m, err := r.v.open(ctx, storedAs(s, v))
			if err != nil {
				return a.alarm(ctx, s.Name, &v.Version, err)
			}
			d.Keys = append(d.Keys, m.Value)
			m.Username.Release()
		}
		a.note("signing_secret", s.Name)
		a.note("signing_version", s.CurrentVersion)
	}
	return nil
}

// maxSigningKeys is how many versions of a signing secret sign: the current one, and the one before it while that is valid.
const maxSigningKeys = 2

func (a *attempt) companion(ctx context.Context, name string, all bool) (*sealedSecret, error) {
	f, err := a.vault.lookups.get(ctx, all, name)
	if err != nil {
		return nil, err
	}
	s, err := a.genuine(ctx, f, name)
	if errors.Is(err, errNoSecret) {
		return nil, fault.Newf(fault.Invalid, "the secret %s, which the target names, doesn't exist", name).WithCode("no_such_companion")
	}
	return s, err
}
