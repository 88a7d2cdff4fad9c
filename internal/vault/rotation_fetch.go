package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/envelope"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// fetchTime is how long a webhook's receiver may fetch what it was told of.
const fetchTime = time.Minute

// drawFetch makes the token by which a receiver fetches.
func (d *Delivery) drawFetch(random io.Reader) (err error) {
	if d.Fetch, d.fetch, err = access.NewFetchToken(random); err != nil {
		return fault.Wrap(fault.Internal, fmt.Errorf("making a token for fetching: %w", err), "")
	}
	return nil
}

// grantFetch stores what the token that was drawn is good for, if one was, in the transaction that records the delivery.
func (r *Rotations) grantFetch(ctx context.Context, tx *postgres.Tx, a *attempt, d *Delivery, now time.Time) error {
	if d.Fetch.IsZero() {
		return nil
	}
	grant := integrity.Fetch{
		Fingerprint: d.fetch[:], SecretID: d.SecretID, VersionUID: d.version.VersionUid, CreatedAt: now, ExpiresAt: now.Add(fetchTime),
	}
	mac, keyID, err := r.v.keys.MAC(grant)
	if err != nil {
		return err
	}
	d.FetchUntil = grant.ExpiresAt
	a.note("fetch_until", grant.ExpiresAt)
	return tx.InsertFetch(ctx, db.InsertFetchParams{
		TokenSha256: grant.Fingerprint, SecretID: grant.SecretID, VersionUid: grant.VersionUID, CreatedAt: grant.CreatedAt,
		ExpiresAt: grant.ExpiresAt, Mac: mac, KeyID: &keyID,
	})
}

// errNoFetch is the same whatever is wrong with a token.
var errNoFetch = fault.New(fault.Unauthenticated, "this token fetches nothing: it was used, or has expired, or was never issued; the event will be sent again")

// Fetch discloses the version that a webhook's receiver was told of, once, to whoever brings the token of the event from an allowlisted
// address. The token is gone from the commit of the record on, whether or not the answer arrives.
func (v *Vault) Fetch(ctx context.Context, c Caller, token sensitive.Bytes) (*Secret, error) {
	op := operation{action: ActionRotationFetch, rule: needsAddress}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*Secret, error) {
		fingerprint, err := access.ParseFetchToken(token.Reveal())
		if err != nil {
			return nil, err
		}
		row, err := v.db.FetchByToken(ctx, fingerprint[:])
		if postgres.IsNotFound(err) {
			return nil, errNoFetch
		}
		if err != nil {
			return nil, err
		}
		a.op.name = row.Name
		grant := integrity.Fetch{
			Fingerprint: row.TokenSha256, SecretID: row.SecretID, VersionUID: row.VersionUid, CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt,
		}
		if err := v.keys.Check(grant, row.Mac, row.KeyID); err != nil {
			return nil, a.alarm(ctx, row.Name, nil, damaged("token for fetching", row.Name, err))
		}
		if !row.ReadAt.Before(row.ExpiresAt) {
			return nil, errNoFetch
		}
		sealed, err := a.takeFetch(ctx, &row)
		if err != nil {
			return nil, err
		}
		m, err := v.open(ctx, stored{
			place:  envelope.Place{SecretID: sealed.SecretID, Name: row.Name, Version: sealed.Version, VersionUID: sealed.VersionUid},
			format: sealed.format, kmsKeyID: sealed.KmsKeyID, wrappedDEK: sealed.WrappedDek,
			sealed: envelope.Sealed{Nonce: sealed.Nonce, Ciphertext: sealed.ciphertext},
		})
		if err != nil {
			return nil, a.alarm(ctx, row.Name, &sealed.Version, err)
		}
		return &Secret{
			Name: row.Name, Kind: sealed.kind, Format: m.Format, Version: sealed.Version, VersionUID: sealed.VersionUid,
			CreatedAt: sealed.CreatedAt, Material: &m,
		}, nil
	})
}

// takeFetch uses the token up and gives the version that it is good for, while that may become the current one.
func (a *attempt) takeFetch(ctx context.Context, row *db.FetchByTokenRow) (sealed sealedRow, err error) {
	err = a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
		l, err := a.lock(ctx, tx, row.Name)
		if err != nil {
			return err
		}
		if l.ID != row.SecretID {
			return errNoFetch
		}
		if err := a.readVersions(ctx, tx, l); err != nil {
			return err
		}
		for i := range l.versions {
			v := &l.versions[i]
			usable := v.State == string(secret.Pending) || v.State == string(secret.Current)
			if v.VersionUid != row.VersionUid || !usable {
				continue
			}
			rows, err := l.ciphertexts(ctx, tx, []*db.VersionsRow{v})
			if err != nil {
				return err
			}
			sealed, a.version = rows[0], v.Version
			used, err := tx.UseFetch(ctx, db.UseFetchParams{TokenSha256: row.TokenSha256, VersionUid: row.VersionUid})
			if err == nil && used != 1 {
				err = errNoFetch
			}
			return err
		}
		return errNoFetch
	})
	if errors.Is(err, errNoSecret) {
		err = errNoFetch
	}
	return sealed, err
}
