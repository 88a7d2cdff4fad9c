package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/secret"
)

const (
	// MaxBatchNames bounds the names of one batch read.
	MaxBatchNames = 256
	// maxBatchBytes bounds what one batch read holds in plaintext, so that a few of them can't exhaust the memory.
	maxBatchBytes = 4 << 20
)

var (
	errNoSecret  = fault.New(fault.NotFound, "there is no such secret")
	errNoVersion = fault.New(fault.NotFound, "the secret has no such valid version")
)

// Read discloses one secret's value, or says that the client's copy is still current.
func (v *Vault) Read(ctx context.Context, c Caller, r ReadRequest) (*Secret, error) {
	name, err := secret.ParseName(r.Name)
	if err != nil {
		return nil, err
	}
	if r.Version < 0 {
		return nil, fault.New(fault.Invalid, "version is a positive number")
	}
	op := operation{action: ActionRead, rule: needsReader, name: name.String()}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*Secret, error) {
		a.version = r.Version
		row, version, err := a.pick(ctx, op.name, r.Version)
		if err != nil {
			return nil, err
		}
		s, err := a.disclose(ctx, row, version)
		if err != nil {
			return nil, err
		}
		if len(r.IfNoneMatch) > 0 && (secret.MatchesWeak(r.IfNoneMatch, s.ETag()) || slices.Contains(r.IfNoneMatch, "*")) {
			s.Release()
			s.NotModified = true
			a.outcome = "not_modified"
		}
		return s, nil
	})
}

// find looks a secret up with its current version, for a change of it.
func (a *attempt) find(ctx context.Context, name string) (*sealedSecret, error) {
	f, err := a.vault.lookups.get(ctx, false, name)
	if err != nil {
		return nil, err
	}
	return a.genuine(ctx, f, name)
}

// genuine gives what was looked up if it is as the vault wrote it. A name that wasn't found is nobody's, or damage.
func (a *attempt) genuine(ctx context.Context, f *found, name string) (*sealedSecret, error) {
	s := f.secrets[name]
	switch {
	case s == nil && f.lost[name] != nil:
		return nil, a.alarm(ctx, name, nil, f.lost[name])
	case s == nil:
		return nil, errNoSecret
	case s.damage != nil:
		return nil, a.alarm(ctx, name, &s.CurrentVersion, s.damage)
	}
	return s, nil
}

// sealed gives a secret's sealed rows, with all its valid versions if all are asked for: those that are kept if there are any
// and they are not refused. Only what was looked up may be taken to be missing.
func (a *attempt) sealed(ctx context.Context, name string, all, refuseKept bool) (*sealedSecret, error) {
	v := a.vault
	if !refuseKept && !a.refuseKept {
		connection := v.trail.Connection()
		if s := v.rows.get(name, all, connection); s != nil {
			v.metrics.hits.Inc()
			a.kept = true
			a.basis.Connection = connection
			return s, nil
		}
	}
	v.metrics.misses.Inc()
	f, err := v.lookups.get(ctx, all, name)
	if err != nil {
		return nil, err
	}
	a.kept = false
	a.basis.Connection = f.connection
	return a.genuine(ctx, f, name)
}

// pick finds the version of a secret that is asked for, 0 for the current one. The current one may come as nil, which is
// damage; another one is valid.
func (a *attempt) pick(ctx context.Context, name string, number int64) (*sealedSecret, *postgres.SealedVersion, error) {
	s, err := a.sealed(ctx, name, number != 0, false)
	if err != nil {
		return nil, nil, err
	}
	if number == 0 {
		return s, s.current(), nil
	}
	version := s.version(number, a.vault.trail.DatabaseTime())
	if version == nil && a.kept {
		if s, err = a.sealed(ctx, name, true, true); err != nil {
			return nil, nil, err
		}
		version = s.version(number, a.vault.trail.DatabaseTime())
	}
	if version == nil {
		return nil, nil, errNoVersion
	}
	return s, version, nil
}

// disclose opens a version of a secret into an answer, which then rests on it. A missing version is damage.
func (a *attempt) disclose(ctx context.Context, s *sealedSecret, version *postgres.SealedVersion) (*Secret, error) {
	if version == nil {
		return nil, a.alarm(ctx, s.Name, &s.CurrentVersion, errNotCurrent)
	}
	m, err := a.vault.open(ctx, storedAs(s, version))
	if err != nil {
		a.vault.rows.drop(s.Name)
		if a.kept && errors.Is(err, errDamaged) {
			return nil, errKeptDamage
		}
		return nil, a.alarm(ctx, s.Name, &version.Version, err)
	}
	kind, err := secret.ParseKind(s.Kind)
	if err != nil {
		m.Release()
		return nil, a.alarm(ctx, s.Name, &version.Version, fmt.Errorf("%w: it is of no known kind", errDamaged))
	}
	a.version = version.Version
	a.restOn(s, version, 0)
	return &Secret{
		Name: s.Name, Kind: kind, Format: m.Format, Version: version.Version, VersionUID: version.UID,
		CreatedAt: version.CreatedAt, Material: &m,
	}, nil
}

// restOn notes that the answer was made from a version, and what it takes that to be: see postgres.Held.Valid.
func (a *attempt) restOn(s *sealedSecret, version *postgres.SealedVersion, valid int) {
	a.basis.Held = append(a.basis.Held, postgres.Held{
		SecretID: s.ID, Secret: s.Tuple, VersionUID: version.UID, Version: version.Tuple,
		Valid: int32(valid), //nolint:gosec // a few
	})
	a.validUntil(version.ExpiresAt)
}

type secrets []*Secret

// Release zeroes all of them.
func (s secrets) Release() {
	for _, one := range s {
		one.Release()
	}
}

// ReadBatch discloses several secrets at once, in the order asked for, each once. Names that don't exist and names that the
// caller may not read are left out alike. Every name has its own record; all are committed or nothing is answered.
func (v *Vault) ReadBatch(ctx context.Context, c Caller, names []string) ([]*Secret, error) {
	wanted, err := batchNames(names)
	if err != nil {
		return nil, err
	}
	op := operation{action: ActionRead, rule: needsReaderOfEach, detail: map[string]any{"batch": len(wanted)}}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (secrets, error) {
		found, err := a.sealedAll(ctx, wanted)
		if err != nil {
			return nil, err
		}
		size := 0
		out := make(secrets, 0, len(wanted))
		records := make([]audit.Record, 0, len(wanted))
		a.basis.Held = make([]postgres.Held, 0, len(wanted))
		for i, name := range wanted {
			row := found[i]
			switch {
			case row != nil:
				s, err := a.disclose(ctx, row, row.current())
				if err != nil {
					a.op.name = name
					return out, err
				}
				out = append(out, s)
				if size += s.Material.Username.Len() + s.Material.Value.Len(); size > maxBatchBytes {
					a.version = 0 // it is not about this one
					return out, fault.New(fault.TooLarge, "these secrets hold more than 4 MiB together: ask for fewer at a time")
				}
				records = append(records, a.recordFor(ActionRead, name, s.Version, outcomeOK))
			case v.mayDisclose(c, a.who, name):
				records = append(records, a.recordFor(ActionRead, name, 0, fault.NotFound.String()))
			default:
				records = append(records, a.recordFor(ActionRead, name, 0, fault.Denied.String()))
			}
		}
		a.records = records
		return out, nil
	})
}

// sealedAll gives the sealed rows of each name, nil for one that doesn't exist or that the caller may not read. What isn't
// kept is looked up in one statement.
func (a *attempt) sealedAll(ctx context.Context, wanted []string) ([]*sealedSecret, error) {
	v := a.vault
	a.batch = wanted
	a.basis.Connection = v.trail.Connection()
	all := make([]*sealedSecret, len(wanted))
	var missing []string
	for i, name := range wanted {
		if !v.mayDisclose(a.caller, a.who, name) {
			continue
		}
		if !a.refuseKept {
			all[i] = v.rows.get(name, false, a.basis.Connection)
		}
		if all[i] == nil {
			missing = append(missing, name)
		} else {
			a.kept = true
			v.metrics.hits.Inc()
		}
	}
	if len(missing) == 0 {
		return all, nil
	}
	v.metrics.misses.Add(float64(len(missing)))
	f, err := v.lookups.get(ctx, false, missing...)
	if err != nil {
		return nil, err
	}
	if f.connection != a.basis.Connection {
		a.basis.Connection = audit.NoConnection // what was kept is of another one than what was looked up
	}
	for i, name := range wanted {
		if all[i] != nil || !v.mayDisclose(a.caller, a.who, name) {
			continue
		}
		s, err := a.genuine(ctx, f, name)
		if err != nil && !errors.Is(err, errNoSecret) {
			a.op.name = name
			return nil, err
		}
		all[i] = s
	}
	return all, nil
}

func batchNames(names []string) ([]string, error) {
	if len(names) == 0 || len(names) > MaxBatchNames {
		return nil, fault.Newf(fault.Invalid, "names holds 1 to %d names", MaxBatchNames)
	}
	seen := make(map[string]bool, len(names))
	wanted := make([]string, 0, len(names))
	for i, n := range names {
		name, err := secret.ParseName(n)
		if err != nil {
			return nil, fault.Newf(fault.Invalid, "names[%d]: %s", i, fault.Message(err))
		}
		if !seen[name.String()] {
			seen[name.String()] = true
			wanted = append(wanted, name.String())
		}
	}
	return wanted, nil
}
