package vault

import (
	"context"
	"errors"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Verify tells whether a value is the secret's current one or one still in its grace. It opens every valid version and
// compares in constant time, whatever matched (I12). presented holds Value or Binary.
func (v *Vault) Verify(ctx context.Context, c Caller, name string, presented Given) (Verdict, error) {
	parsed, err := secret.ParseName(name)
	if err != nil {
		return Verdict{}, err
	}
	value, err := presented.verifiable()
	if err != nil {
		return Verdict{}, err
	}
	op := operation{action: ActionVerify, rule: needsReader, name: parsed.String()}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (Verdict, error) {
		s, err := a.sealed(ctx, op.name, true, false)
		if err != nil {
			return Verdict{}, a.unavailable(err)
		}
		if s.current() == nil {
			return Verdict{}, a.unverifiable(ctx, s.Name, &s.CurrentVersion, errNotCurrent)
		}
		verdict, err := a.compare(ctx, s, value)
		if err != nil {
			return Verdict{}, err
		}
		a.version = verdict.Version
		a.outcome = "mismatch"
		if verdict.Valid {
			a.outcome = "match"
		}
		return verdict, nil
	})
}

// compare opens every valid version, whatever matched (I12). The answer rests on all of them, and on their number: a match
// needs the one that matched, a mismatch needs that there is no other.
func (a *attempt) compare(ctx context.Context, s *sealedSecret, value sensitive.Bytes) (Verdict, error) {
	at := a.vault.trail.DatabaseTime()
	var verdict Verdict
	valid := make([]*postgres.SealedVersion, 0, len(s.Versions))
	for i := range s.Versions {
		version := s.version(s.Versions[i].Version, at)
		if version == nil {
			continue
		}
		valid = append(valid, version)
		m, err := a.vault.open(ctx, storedAs(s, version))
		if err != nil {
			a.vault.rows.drop(s.Name)
			if a.kept && errors.Is(err, errDamaged) {
				return Verdict{}, errKeptDamage
			}
			return Verdict{}, a.unverifiable(ctx, s.Name, &version.Version, err)
		}
		if sensitive.Equal(m.Value, value) && !verdict.Valid {
			verdict = Verdict{Valid: true, Version: version.Version}
		}
		m.Release()
	}
	all := len(valid)
	for _, version := range valid {
		a.restOn(s, version, all)
		all = 0 // once is enough
	}
	return verdict, nil
}

// unverifiable is the alarm of verify: an answer that can't be given for want of one version is unavailable, not wrong.
func (a *attempt) unverifiable(ctx context.Context, name string, version *int64, err error) error {
	return a.unavailable(a.alarm(ctx, name, version, err))
}

func (a *attempt) unavailable(err error) error {
	if a.outcome == outcomeUnverifiable && fault.KindOf(err) == fault.Internal {
		return fault.Wrap(fault.Unavailable, err, "")
	}
	return err
}

func (g Given) verifiable() (sensitive.Bytes, error) {
	switch {
	case !g.Username.IsZero() || !g.Password.IsZero(), g.Value.IsZero() == g.Binary.IsZero():
		return sensitive.Bytes{}, fault.New(fault.Invalid, "send either value or value_base64; for a userpass secret it is the password")
	case !g.Value.IsZero():
		return g.Value, nil
	default:
		return g.Binary, nil
	}
}
