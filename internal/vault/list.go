package vault

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

const (
	defaultPage = 100
	// MaxPageItems bounds one page.
	MaxPageItems = 1000
)

// List gives one page of metadata, by name in byte order, of the secrets that the caller's role can act on in any way.
func (v *Vault) List(ctx context.Context, c Caller, r ListRequest) (*Page, error) {
	limit, err := pageLimit(r.Limit)
	if err != nil {
		return nil, err
	}
	if err := secret.CheckPrefix(r.Prefix); err != nil {
		return nil, err
	}
	after, err := parseCursor(r.Cursor)
	if err != nil {
		return nil, err
	}
	op := operation{action: ActionList, rule: needsToken, detail: map[string]any{"prefix": r.Prefix}}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*Page, error) {
		everything, exact, prefixes := a.who.rules.Scope()
		since := v.seen.begin()
		rows, err := v.db.ListSecrets(ctx, db.ListSecretsParams{
			After: after, Prefix: r.Prefix, Upper: upperBound(r.Prefix), Everything: everything,
			Exact: nonNil(exact), Prefixes: nonNil(prefixes), MaxRows: int32(limit + 1), //nolint:gosec // at most 1001
		})
		if err != nil {
			return nil, err
		}
		page := &Page{Items: make([]Metadata, 0, min(len(rows), limit))}
		if len(rows) > limit {
			rows = rows[:limit]
			page.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(rows[limit-1].VaultSecret.Name))
		}
		for i := range rows {
			row := &rows[i].VaultSecret
			if err := v.checkListed(ctx, &rows[i], since); err != nil {
				return nil, a.alarm(ctx, row.Name, &row.CurrentVersion, err)
			}
			metadata, err := secret.DecodeCustomMetadata(row.CustomMetadata)
			if err != nil {
				return nil, a.alarm(ctx, row.Name, nil, fmt.Errorf("%w: %w", errDamaged, err))
			}
			rotation, target, err := (&UpdateRequest{}).mergeRotation(row)
			if err != nil {
				return nil, a.alarm(ctx, row.Name, nil, err)
			}
			page.Items = append(page.Items, Metadata{
				Name: row.Name, Kind: secret.Kind(row.Kind), Format: secret.Format(row.Format), Description: row.Description,
				RotationIntervalSecs: row.RotationIntervalSecs, Rotation: rotation, Target: target, GracePeriodSecs: row.GracePeriodSecs,
				Version: row.CurrentVersion, NextRotationAt: row.NextRotationAt, CustomMetadata: metadata,
				CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
			})
		}
		last := ""
		if page.NextCursor != "" {
			last = rows[limit-1].VaultSecret.Name
		}
		if err := a.checkAbsent(ctx, page.Items, v.seen.within(after, last, r.Prefix, since), since); err != nil {
			return nil, err
		}
		a.note("items", len(page.Items))
		return page, nil
	})
}

// Versions describes all versions of a secret that are still stored, newest first.
func (v *Vault) Versions(ctx context.Context, c Caller, name string) ([]VersionMetadata, error) {
	parsed, err := secret.ParseName(name)
	if err != nil {
		return nil, err
	}
	op := operation{action: ActionVersions, rule: needsAnyRight, name: parsed.String()}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) ([]VersionMetadata, error) {
		row, rows, err := a.allVersions(ctx, parsed.String())
		if err != nil {
			return nil, err
		}
		versions := make([]VersionMetadata, len(rows))
		for i := range rows {
			r := &rows[len(rows)-1-i]
			state := secret.State(r.State)
			versions[i] = VersionMetadata{
				Version: r.Version, State: state, Valid: secret.Valid(state, r.ExpiresAt, row.ReadAt),
				CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt,
			}
		}
		a.version = row.VaultSecret.CurrentVersion
		return versions, nil
	})
}

// allVersions reads a secret with all its versions, at one instant, and verifies all of it.
func (a *attempt) allVersions(ctx context.Context, name string) (row db.SecretByNameRow, versions []db.VersionsRow, err error) {
	v := a.vault
	since := v.seen.begin()
	err = v.db.Snapshot(ctx, func(q *postgres.Snapshot) (err error) {
		if row, err = q.SecretByName(ctx, name); err == nil {
			versions, err = q.Versions(ctx, row.VaultSecret.ID)
		}
		return err
	})
	if postgres.IsNotFound(err) {
		if err := v.checkMissing(ctx, v.db, name, since); err != nil {
			return row, nil, a.alarm(ctx, name, nil, err)
		}
		return row, nil, errNoSecret
	}
	if err != nil {
		return row, nil, err
	}
	s := &row.VaultSecret
	err = v.checkSecret(s, row.Deleted)
	if err == nil {
		err = v.checkVersions(s, versions)
	}
	if err == nil {
		_, err = v.checkRevision(ctx, v.db, s, since)
	}
	if err != nil {
		return row, nil, a.alarm(ctx, name, &s.CurrentVersion, err)
	}
	return row, versions, nil
}

// checkAbsent makes sure that the names which this process has seen, and which a list should hold and doesn't, were deleted.
func (a *attempt) checkAbsent(ctx context.Context, items []Metadata, names []string, since int64) error {
	listed := make(map[string]bool, len(items))
	for i := range items {
		listed[items[i].Name] = true
	}
	for _, name := range names {
		if listed[name] || !a.who.rules.AllowsAny(name) {
			continue
		}
		if err := a.vault.checkMissing(ctx, a.vault.db, name, since); err != nil {
			return a.alarm(ctx, name, nil, err)
		}
	}
	return nil
}

// checkListed verifies a row of a list.
func (v *Vault) checkListed(ctx context.Context, row *db.ListSecretsRow, since int64) error {
	if err := v.checkSecret(&row.VaultSecret, row.Deleted); err != nil {
		return err
	}
	_, err := v.checkRevision(ctx, v.db, &row.VaultSecret, since)
	return err
}

var errBadCursor = fault.New(fault.Invalid, "cursor isn't one that a page gave: start again without it")

func pageLimit(limit int) (int, error) {
	switch {
	case limit == 0:
		return defaultPage, nil
	case limit < 0 || limit > MaxPageItems:
		return 0, fault.Newf(fault.Invalid, "limit is 1 to %d", MaxPageItems)
	}
	return limit, nil
}

// parseCursor gives the name that the page comes after. A cursor is no authority: the page is filtered by the caller's scope
// whatever it says.
func parseCursor(cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		_, err = secret.ParseName(string(raw))
	}
	if err != nil {
		return "", errBadCursor
	}
	return string(raw), nil
}

// upperBound gives the first name, in byte order, past all that begin with prefix. Names are ASCII, so the last byte can
// always be raised.
func upperBound(prefix string) *string {
	if prefix == "" {
		return nil
	}
	b := []byte(prefix)
	b[len(b)-1]++
	upper := string(b)
	return &upper
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
