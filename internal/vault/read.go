package vault

import (
	"context"
	"slices"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
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
func (v *Vault) find(ctx context.Context, name string) (*versionRow, error) {
	rows, err := v.db.CurrentVersions(ctx, []string{name})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errNoSecret
	}
	return &rows[0], nil
}

// sealed gives a secret's sealed rows, those that are kept if there are any and they are not refused. Only what was looked up
// may be taken to be missing.
func (a *attempt) sealed(ctx context.Context, name string, refuseKept bool) (s *sealedSecret, kept bool, err error) {
	v := a.vault
	connection := v.trail.Connection()
	if !refuseKept {
		if s := v.rows.get(name, connection); s != nil {
			v.metrics.hits.Inc()
			a.basis.Connection = connection
			return s, true, nil
		}
	}
	v.metrics.misses.Inc()
	found, err := v.lookups.get(ctx, name)
	if err != nil {
		return nil, false, err
	}
	if s = found[name]; s == nil {
		return nil, false, errNoSecret
	}
	a.basis.Connection = s.connection
	return s, false, nil
}

// pick finds the version of a secret that is asked for, 0 for the current one. The current one may come as nil, which is
// damage; another one is valid.
func (a *attempt) pick(ctx context.Context, name string, number int64) (*sealedSecret, *postgres.SealedVersion, error) {
	s, kept, err := a.sealed(ctx, name, false)
	if err != nil {
		return nil, nil, err
	}
	if number == 0 {
		return s, s.current(), nil
	}
	version := s.version(number, a.vault.trail.DatabaseTime())
	if version == nil && kept {
		if s, _, err = a.sealed(ctx, name, true); err != nil {
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
		return nil, a.alarm(ctx, s.Name, &version.Version, err)
	}
	a.version = version.Version
	a.restOn(s, version, 0)
	return &Secret{
		Name: s.Name, Kind: secret.Kind(s.Kind), Format: m.Format, Version: version.Version, VersionUID: version.UID,
		CreatedAt: version.CreatedAt, Material: &m,
	}, nil
}

// restOn notes that the answer was made from a version, and that it counted valid versions in all; 0 counted none.
func (a *attempt) restOn(s *sealedSecret, version *postgres.SealedVersion, valid int) {
	a.basis.Held = append(a.basis.Held, postgres.Held{
		SecretID: s.ID, SecretXmin: s.Xmin, Version: version.Version, VersionXmin: version.Xmin,
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
	found := make([]*sealedSecret, len(wanted))
	var missing []string
	for i, name := range wanted {
		if !v.mayDisclose(a.caller, a.who, name) {
			continue
		}
		if found[i] = v.rows.get(name, a.basis.Connection); found[i] == nil {
			missing = append(missing, name)
		} else {
			v.metrics.hits.Inc()
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	v.metrics.misses.Add(float64(len(missing)))
	read, err := v.lookups.get(ctx, missing...)
	if err != nil {
		return nil, err
	}
	for i, name := range wanted {
		s := read[name]
		if found[i] != nil || s == nil || !v.mayDisclose(a.caller, a.who, name) {
			continue
		}
		if s.connection != a.basis.Connection {
			a.basis.Connection = 0 // rows of two connections: no round will take them for current
		}
		found[i] = s
	}
	return found, nil
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
		s, _, err := a.sealed(ctx, op.name, false)
		if err != nil {
			return Verdict{}, err
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
	err = a.alarm(ctx, name, version, err)
	if fault.KindOf(err) == fault.Internal {
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
