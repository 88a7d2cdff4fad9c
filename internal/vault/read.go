package vault

import (
	"context"
	"slices"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
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
		row, err := v.find(ctx, name.String(), r.Version)
		if err != nil {
			return nil, err
		}
		if r.Version != 0 {
			a.version = r.Version
			if !(validity{row.State, row.ExpiresAt, row.ReadAt}).valid() {
				return nil, errNoVersion
			}
		}
		s, err := a.disclose(ctx, row, r.Version == 0)
		if err != nil {
			return nil, err
		}
		if secret.MatchesWeak(r.IfNoneMatch, s.ETag()) || slices.Contains(r.IfNoneMatch, "*") {
			s.Release()
			s.NotModified = true
			a.outcome = "not_modified"
		}
		return s, nil
	})
}

// find looks up a secret with its current version (version 0) or another one.
func (v *Vault) find(ctx context.Context, name string, version int64) (*versionRow, error) {
	var rows []versionRow
	if version == 0 {
		var err error
		if rows, err = v.db.CurrentVersions(ctx, []string{name}); err != nil {
			return nil, err
		}
	} else {
		others, err := v.db.OneVersion(ctx, db.OneVersionParams{Name: name, Version: version})
		if err != nil {
			return nil, err
		}
		for _, o := range others {
			rows = append(rows, versionRow(o))
		}
	}
	switch {
	case len(rows) == 0:
		return nil, errNoSecret
	case version != 0 && rows[0].Version == nil:
		return nil, errNoVersion
	}
	return &rows[0], nil
}

// disclose opens a row into an answer. current asks that it be the current version.
func (a *attempt) disclose(ctx context.Context, row *versionRow, current bool) (*Secret, error) {
	open := a.vault.open
	if current {
		open = a.vault.openCurrent
	}
	m, err := open(ctx, row)
	if err != nil {
		return nil, a.alarm(ctx, row.Name, row.Version, err)
	}
	a.version = *row.Version
	a.validUntil(row.ExpiresAt)
	s := &Secret{
		Name: row.Name, Kind: secret.Kind(row.Kind), Format: m.Format, Version: *row.Version, VersionUID: *row.VersionUid,
		Material: &m,
	}
	if row.VersionCreatedAt != nil {
		s.CreatedAt = *row.VersionCreatedAt
	}
	return s, nil
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
		var allowed []string
		for _, name := range wanted {
			if v.mayDisclose(c, a.who, name) {
				allowed = append(allowed, name)
			}
		}
		rows, err := v.db.CurrentVersions(ctx, allowed)
		if err != nil {
			return nil, err
		}
		found := make(map[string]*versionRow, len(rows))
		for i := range rows {
			found[rows[i].Name] = &rows[i]
		}
		size := 0
		out := make(secrets, 0, len(rows))
		records := make([]audit.Record, 0, len(wanted))
		for _, name := range wanted {
			row := found[name]
			switch {
			case row != nil:
				s, err := a.disclose(ctx, row, true)
				if err != nil {
					a.op.name = name
					return out, err
				}
				out = append(out, s)
				if size += s.Material.Username.Len() + s.Material.Value.Len(); size > maxBatchBytes {
					return out, fault.New(fault.TooLarge, "these secrets hold more than 4 MiB together: ask for fewer at a time")
				}
				records = append(records, a.recordFor(ActionRead, name, s.Version, outcomeOK))
			case slices.Contains(allowed, name):
				records = append(records, a.recordFor(ActionRead, name, 0, fault.NotFound.String()))
			default:
				records = append(records, a.recordFor(ActionRead, name, 0, fault.Denied.String()))
			}
		}
		a.records = records
		return out, nil
	})
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
		rows, err := v.db.ValidVersions(ctx, parsed.String())
		if err != nil {
			return Verdict{}, err
		}
		if len(rows) == 0 {
			return Verdict{}, errNoSecret
		}
		var verdict Verdict
		current := false
		for i := range rows {
			row := versionRow(rows[i])
			m, err := v.open(ctx, &row)
			if err != nil {
				return Verdict{}, a.unverifiable(ctx, row.Name, row.Version, err)
			}
			if sensitive.Equal(m.Value, value) && !verdict.Valid {
				verdict = Verdict{Valid: true, Version: *row.Version}
				a.validUntil(row.ExpiresAt)
			}
			current = current || *row.State == string(secret.Current)
			m.Release()
		}
		if !current {
			return Verdict{}, a.unverifiable(ctx, parsed.String(), &rows[0].CurrentVersion, errNotCurrent)
		}
		a.version = verdict.Version
		a.outcome = "mismatch"
		if verdict.Valid {
			a.outcome = "match"
		}
		return verdict, nil
	})
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
