package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/envelope"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Delivery is what a rotation hands to a target. The receiver releases it.
type Delivery struct {
	SecretID   uuid.UUID
	Secret     string
	Target     *secret.Target
	Version    int64
	Generation int64 // of this attempt: newer than that of any before it
	New        secret.Material
	// Login is what sets it, at a target that has a login secret; else the zero value.
	Login secret.Material
	// Before is what the target may take until then, the likeliest first, where the credential sets itself.
	Before []secret.Material
	// Keys sign what a webhook is sent, the newest first.
	Keys []sensitive.Bytes
	// Fetch lets a webhook's receiver fetch New once, until FetchUntil; zero if the value is sent.
	Fetch      sensitive.Bytes
	FetchUntil time.Time

	version db.VersionsRow
	fetch   access.Fingerprint
	tried   time.Time       // when Look gave it; else zero
	valid   []validMaterial // of Before
}

// validMaterial is what a superseded version holds, and until when it is valid.
type validMaterial struct {
	secret.Material
	until time.Time
}

// Release zeroes what it holds. It is safe to call twice.
func (d *Delivery) Release() {
	if d == nil {
		return
	}
	d.New.Release()
	d.Login.Release()
	for _, m := range d.Before {
		m.Release()
	}
	for _, k := range d.Keys {
		k.Release()
	}
	d.Fetch.Release()
}

// EventID names a step of this delivery: the same step of the same delivery has the same one, and that of another has another one. Attempts differ
// by their generations, and tries, which have no generation of their own, by their times: who claims one has the secret's for a while.
func (d *Delivery) EventID(step string) uuid.UUID {
	return uuid.NewSHA1(d.SecretID, fmt.Appendf(nil, "%s %d %s %d", step, d.Generation, d.version.VersionUid, d.tried.UnixMicro()))
}

// WaitError says that a rotation has to wait: the role that is to change still has a valid version.
type WaitError struct{ Until time.Time }

func (e *WaitError) Error() string {
	return "the other role's version is valid until " + e.Until.UTC().Format(time.RFC3339)
}

// sealedRow is a version that was verified, with its ciphertext.
type sealedRow struct {
	db.VersionsRow
	format     string
	kind       secret.Kind
	ciphertext []byte
	readAt     time.Time
}

// ciphertexts reads those of some versions.
func (l *lockedSecret) ciphertexts(ctx context.Context, tx *postgres.Tx, versions []*db.VersionsRow) ([]sealedRow, error) {
	rows := make([]sealedRow, len(versions))
	for i, v := range versions {
		ciphertext, err := tx.Ciphertext(ctx, db.CiphertextParams{SecretID: l.ID, Version: v.Version, VersionUid: v.VersionUid})
		if err != nil {
			return nil, err
		}
		rows[i] = sealedRow{*v, l.Format, secret.Kind(l.Kind), ciphertext, l.now}
	}
	return rows, nil
}

// others are the versions that a credential may be known by at its target besides that one, the likeliest first.
func (l *lockedSecret) others(deliver *db.VersionsRow) []*db.VersionsRow {
	var rows []*db.VersionsRow
	if current := l.current(); current != nil && current != deliver {
		rows = append(rows, current)
	}
	for i := range slices.Backward(l.versions) {
		if v := &l.versions[i]; v != deliver && v.Version != l.CurrentVersion && len(rows) < maxOthers {
			rows = append(rows, v)
		}
	}
	return rows
}

// maxOthers bounds the versions that are opened because a target may know them.
const maxOthers = 20

// open opens what was read of a delivery: first the version that it delivers.
func (r *Rotations) open(ctx context.Context, a *attempt, d *Delivery, rows []sealedRow) error {
	for i := range rows {
		row := &rows[i]
		m, err := r.v.open(ctx, stored{
			place:  envelope.Place{SecretID: row.SecretID, Name: d.Secret, Version: row.Version, VersionUID: row.VersionUid},
			format: row.format, kmsKeyID: row.KmsKeyID, wrappedDEK: row.WrappedDek,
			sealed: envelope.Sealed{Nonce: row.Nonce, Ciphertext: row.ciphertext},
		})
		switch {
		case err != nil && i > 0 && errors.Is(err, errDamaged):
			r.v.log.ErrorContext(ctx, "a version that may be live at its target doesn't open", "secret", d.Secret, "version", row.Version, "error", err)
		case err != nil:
			return a.alarm(ctx, d.Secret, &row.Version, err)
		case i == 0:
			d.New = m
		case row.ExpiresAt != nil && row.ExpiresAt.After(row.readAt):
			d.valid = append(d.valid, validMaterial{m, *row.ExpiresAt})
			fallthrough
		default:
			d.Before = append(d.Before, m)
		}
	}
	return nil
}
