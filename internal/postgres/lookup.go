package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// SealedSecret is a secret with its current version, or all valid ones, sealed as they are stored, and what tells whether any
// of it has changed since. The slices are the receiver's.
type SealedSecret struct {
	db.VaultSecret
	Tuple Tuple
	// Versions are the current one, or those that were valid when they were read, newest first. The current one is missing
	// only where the database was tampered with.
	Versions []SealedVersion
	// All tells that Versions are all valid ones.
	All bool
	// Others are the versions that aren't valid, without their ciphertext; only with All. What makes them so is to be verified, too.
	Others []SealedVersion
	// MACs are those of all the secret's versions, by number; only without All.
	MACs [][]byte
	// Next is the number of the next version.
	Next int64
	// Null tells that a column is NULL which never is: it comes as an empty value, and may be what the MAC covers.
	Null bool
	// Deleted tells that there is a record of its having been deleted.
	Deleted bool
}

// SealedVersion is one version, sealed.
type SealedVersion struct {
	Version    int64
	UID        uuid.UUID
	State      string
	KMSKeyID   string
	WrappedDEK []byte
	Nonce      []byte
	Ciphertext []byte
	Hash       []byte // SHA-256 of a ciphertext that isn't here
	CreatedAt  time.Time
	ExpiresAt  *time.Time
	WrappedAt  time.Time
	MAC        []byte
	KeyID      *uuid.UUID
	Tuple      Tuple
}

// Wanted asks for a secret by name, with its current version or with all valid ones.
type Wanted struct {
	Name string
	All  bool
}

// LookupConn is a connection of its own for looking up secrets by name, many in one statement, so that what is cold never
// waits for the pool. It belongs to one goroutine.
type LookupConn struct{ *dedicated }

// LookupConn connects. The caller must Close it.
func (d *DB) LookupConn(ctx context.Context) (*LookupConn, error) {
	c, err := d.dedicate(ctx)
	if err != nil {
		return nil, err
	}
	return &LookupConn{dedicated: c}, nil
}

// The system columns are why this statement isn't generated: the generator knows none. An infinite time, which nothing of ours
// writes and the driver can't read, would keep everybody in the same lookup from an answer: it comes as one long past. So would a NULL
// where somebody dropped the constraint: it comes as an empty value, and told. OFFSET 0 keeps the planner from turning the
// lookups into a join of whole tables, which it likes while they are small.
const sealedSQL = `
SELECT s.id, s.name, coalesce(s.kind, ''), coalesce(s.format, ''), coalesce(s.description, ''), s.rotation_interval_secs,
       coalesce(s.grace_period_secs, 0), coalesce(s.current_version, 0),
       CASE WHEN s.next_rotation_at IS NULL OR isfinite(s.next_rotation_at) THEN s.next_rotation_at ELSE 'epoch' END,
       s.target, s.custom_metadata, CASE WHEN isfinite(s.created_at) THEN s.created_at ELSE 'epoch' END,
       CASE WHEN isfinite(s.updated_at) THEN s.updated_at ELSE 'epoch' END, s.mac, s.key_id, coalesce(s.revision, 0), s.versions_digest,
       s.rotation, coalesce((SELECT max(a.version) FROM ONLY vault.secret_versions a WHERE a.secret_id = s.id), 0) + 1,
       num_nulls(s.id, s.kind, s.format, s.description, s.grace_period_secs, s.current_version, s.created_at, s.updated_at, s.revision) > 0,
       s.ctid, s.xmin, wanted.everything, (SELECT true FROM ONLY vault.deleted_secrets d WHERE d.secret_id = s.id) IS NOT NULL,
       CASE WHEN NOT wanted.everything THEN
           ARRAY(SELECT a.mac FROM ONLY vault.secret_versions a WHERE a.secret_id = s.id ORDER BY a.version) END,
       v.version, v.version_uid, v.state, v.kms_key_id, v.wrapped_dek, v.nonce, CASE WHEN v.state = 'current' OR (v.state = 'superseded' AND v.expires_at > now()) THEN v.ciphertext END,
       CASE WHEN v.state = 'current' OR (v.state = 'superseded' AND v.expires_at > now()) THEN NULL ELSE sha256(v.ciphertext) END,
       CASE WHEN isfinite(v.created_at) THEN v.created_at ELSE 'epoch' END,
       CASE WHEN v.expires_at IS NULL OR isfinite(v.expires_at) THEN v.expires_at ELSE 'epoch' END,
       CASE WHEN isfinite(v.wrapped_at) THEN v.wrapped_at ELSE 'epoch' END, v.mac, v.key_id, v.ctid, v.xmin
FROM unnest($1::text[], $2::boolean[]) AS wanted (name, everything)
CROSS JOIN LATERAL (
    SELECT id, name, kind, format, description, rotation_interval_secs, grace_period_secs, current_version, next_rotation_at,
           target, custom_metadata, created_at, updated_at, mac, key_id, revision, versions_digest, rotation, ctid, xmin
    FROM ONLY vault.secrets WHERE name = wanted.name OFFSET 0
) s
LEFT JOIN LATERAL (
    SELECT version, version_uid, state, kms_key_id, wrapped_dek, nonce, expires_at, ciphertext, created_at, wrapped_at, mac, key_id,
           ctid, xmin
    FROM ONLY vault.secret_versions
    WHERE secret_id = s.id AND (state = 'current' OR wanted.everything) OFFSET 0
) v ON true
ORDER BY s.name, v.version DESC`

// Sealed looks up secrets, each name given once, in one statement, of one snapshot; names that don't exist are left out. The
// order is that of the names' bytes. ctx cuts the connection if it ends first.
func (c *LookupConn) Sealed(ctx context.Context, wanted []Wanted) ([]SealedSecret, error) {
	names, all := make([]string, len(wanted)), make([]bool, len(wanted))
	for i, w := range wanted {
		names[i], all[i] = w.Name, w.All
	}
	rows, err := c.conn.Query(ctx, sealedSQL, names, all)
	if err != nil {
		return nil, fmt.Errorf("looking up secrets: %w", err)
	}
	defer rows.Close()
	var found []SealedSecret
	for rows.Next() {
		var (
			s                      SealedSecret
			v                      SealedVersion
			number                 *int64
			uid                    *uuid.UUID
			state, kmsKeyID        *string
			createdAt, wrappedAt   *time.Time
			secretAt, versionAt    pgtype.TID
			versionXmin            *uint32
			wrapped, nonce, sealed []byte
		)
		err := rows.Scan(&s.ID, &s.Name, &s.Kind, &s.Format, &s.Description, &s.RotationIntervalSecs, &s.GracePeriodSecs, &s.CurrentVersion,
			&s.NextRotationAt, &s.Target, &s.CustomMetadata, &s.CreatedAt, &s.UpdatedAt, &s.Mac, &s.KeyID, &s.Revision, &s.VersionsDigest,
			&s.Rotation, &s.Next,
			&s.Null, &secretAt, &s.Tuple.Xmin, &s.All, &s.Deleted, &s.MACs,
			&number, &uid, &state, &kmsKeyID, &wrapped, &nonce, &sealed, &v.Hash, &createdAt, &v.ExpiresAt, &wrappedAt, &v.MAC, &v.KeyID,
			&versionAt, &versionXmin)
		if err != nil {
			return nil, fmt.Errorf("looking up secrets: %w", err)
		}
		s.Tuple.Block, s.Tuple.Offset = secretAt.BlockNumber, secretAt.OffsetNumber
		if n := len(found); n == 0 || found[n-1].Tuple != s.Tuple {
			found = append(found, s)
		}
		if versionXmin == nil {
			continue // a secret without any valid version
		}
		// Where somebody let a column be NULL it comes as what none of ours has, and no MAC matches that.
		v.Version, v.UID, v.State, v.KMSKeyID = orZero(number), orZero(uid), orZero(state), orZero(kmsKeyID)
		v.CreatedAt, v.WrappedAt = orZero(createdAt), orZero(wrappedAt)
		v.Tuple = Tuple{Block: versionAt.BlockNumber, Offset: versionAt.OffsetNumber, Xmin: *versionXmin}
		v.WrappedDEK, v.Nonce, v.Ciphertext = wrapped, nonce, sealed
		last := &found[len(found)-1]
		if v.Hash != nil {
			last.Others = append(last.Others, v)
			continue
		}
		last.Versions = append(last.Versions, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("looking up secrets: %w", err)
	}
	return found, nil
}

func orZero[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
