package sealkeeptest

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// Reseal gives every row that a test has edited the MAC that the vault would have given it, and the grants another epoch if
// one of theirs was: so a test brings about what the vault itself could have (a token that has expired by now, a version whose grace
// has passed) without waiting for it. Rows that nobody edited are not written to.
func Reseal(t testing.TB, d *pgtest.Database, keys *integrity.Keyring) {
	t.Helper()
	resealGrants(t, d, keys)
	resealSecrets(t, d, keys)
}

// versionRow is a row of vault.secret_versions.
type versionRow struct {
	SecretID   uuid.UUID
	Version    int64
	UID        uuid.UUID
	State      string
	KMSKeyID   string
	WrappedDEK []byte
	Nonce      []byte
	Hash       []byte
	CreatedAt  time.Time
	ExpiresAt  *time.Time
	WrappedAt  time.Time
	MAC        []byte
	KeyID      *uuid.UUID
}

func resealSecrets(t testing.TB, d *pgtest.Database, keys *integrity.Keyring) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, d.URL(pgtest.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	ids, err := collect[uuid.UUID](ctx, conn, "SELECT id FROM vault.secrets", pgx.RowTo)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if err := ResealSecret(ctx, conn, keys, id, 1); err != nil {
			t.Fatal(err)
		}
	}
}

// Querier is a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func collect[T any](ctx context.Context, q Querier, sql string, scan pgx.RowToFunc[T], args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

// ResealSecret is Reseal for one secret, within a transaction if q is one. A secret that was edited goes that many revisions on.
func ResealSecret(ctx context.Context, q Querier, keys *integrity.Keyring, id uuid.UUID, revisions int64) error {
	versions, err := collect(ctx, q, `
		SELECT secret_id, version, version_uid, state, kms_key_id, wrapped_dek, nonce, sha256(ciphertext), created_at, expires_at, wrapped_at,
		       mac, key_id
		FROM vault.secret_versions WHERE secret_id = $1 ORDER BY version`, pgx.RowToStructByPos[versionRow], id)
	if err != nil {
		return err
	}
	macs := make([][]byte, len(versions))
	for i, v := range versions {
		row := integrity.Version{
			SecretID: v.SecretID, Version: v.Version, UID: v.UID, State: v.State, KMSKeyID: v.KMSKeyID, WrappedDEK: v.WrappedDEK, Nonce: v.Nonce,
			CiphertextSHA256: v.Hash, CreatedAt: v.CreatedAt, ExpiresAt: v.ExpiresAt, WrappedAt: v.WrappedAt,
		}
		if macs[i] = v.MAC; keys.Check(row, v.MAC, v.KeyID) == nil {
			continue
		}
		mac, keyID, err := keys.MAC(row)
		if err != nil {
			return err
		}
		macs[i] = mac
		if _, err := q.Exec(ctx, "UPDATE vault.secret_versions SET mac = $1, key_id = $2 WHERE secret_id = $3 AND version = $4", mac, keyID, id, v.Version); err != nil {
			return err
		}
	}
	secrets, err := collect(ctx, q, `
		SELECT id, name, kind, format, description, rotation_interval_secs, grace_period_secs, current_version, next_rotation_at, target,
		       custom_metadata, created_at, updated_at, mac, key_id, revision, versions_digest, rotation
		FROM vault.secrets WHERE id = $1`, pgx.RowToStructByPos[db.VaultSecret], id)
	if err != nil || len(secrets) == 0 {
		return err
	}
	s, digest := secrets[0], integrity.DigestVersions(macs)
	row := integrity.Secret{
		ID: s.ID, Name: s.Name, Kind: s.Kind, Format: s.Format, Description: s.Description, RotationIntervalSecs: s.RotationIntervalSecs,
		GracePeriodSecs: s.GracePeriodSecs, CurrentVersion: s.CurrentVersion, NextRotationAt: s.NextRotationAt, Target: s.Target,
		CustomMetadata: s.CustomMetadata, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, Revision: s.Revision, VersionsDigest: digest[:],
		Rotation: s.Rotation,
	}
	if keys.Check(row, s.Mac, s.KeyID) == nil {
		return nil
	}
	row.Revision += revisions
	mac, keyID, err := keys.MAC(row)
	if err != nil {
		return err
	}
	_, err = q.Exec(ctx, "UPDATE vault.secrets SET revision = $1, versions_digest = $2, mac = $3, key_id = $4 WHERE id = $5",
		row.Revision, digest[:], mac, keyID, id)
	return err
}

// sealedRow is what every table has.
type sealedRow struct {
	mac   []byte
	keyID *uuid.UUID
}

// stale tells whether a row needs another MAC, which it gives.
func stale(t testing.TB, keys *integrity.Keyring, row integrity.Row, stored sealedRow) ([]byte, uuid.UUID, bool) {
	t.Helper()
	if keys.Check(row, stored.mac, stored.keyID) == nil {
		return stored.mac, *stored.keyID, false
	}
	mac, keyID, err := keys.MAC(row)
	if err != nil {
		t.Fatal(err)
	}
	return mac, keyID, true
}

func resealGrants(t testing.TB, d *pgtest.Database, keys *integrity.Keyring) {
	t.Helper()
	database, err := postgres.Open(t.Context(), postgres.Config{ConnString: d.URL(pgtest.Superuser), Process: "reseal", MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	rows, err := database.Grants(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	var macs [][]byte
	var state postgres.GrantRow
	for _, r := range rows {
		var row integrity.Row
		var sql string
		switch r.Kind {
		case "state":
			state = r
			continue
		case "role":
			row, sql = integrity.Role{ID: r.ID, Name: r.Name, Description: r.Text, IsAdmin: r.Flag, CreatedAt: r.CreatedAt},
				"UPDATE vault.roles SET mac = $1, key_id = $2 WHERE id = $3"
		case "permission":
			row, sql = integrity.Permission{RoleID: r.ID, Action: r.Name, Path: r.Text},
				"UPDATE vault.role_permissions SET mac = $1, key_id = $2 WHERE role_id = $3 AND action = $4 AND path = $5"
		case "token":
			row, sql = integrity.Token{
				ID: r.ID, Name: r.Name, RoleID: *r.RoleID, Fingerprint: r.Fingerprint, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, RevokedAt: r.RevokedAt,
			}, "UPDATE vault.admin_tokens SET mac = $1, key_id = $2 WHERE id = $3"
		}
		mac, keyID, edited := stale(t, keys, row, sealedRow{r.MAC, r.KeyID})
		macs = append(macs, mac)
		if edited {
			args := []any{mac, keyID, r.ID}
			if r.Kind == "permission" {
				args = append(args, r.Name, r.Text)
			}
			d.Exec(t, sql, args...)
		}
	}
	snapshot := integrity.Grants{VaultID: state.ID, Epoch: state.Epoch, Initialised: state.Flag, Digest: integrity.DigestGrants(macs)}
	if keys.Check(snapshot, state.MAC, state.KeyID) == nil {
		return
	}
	snapshot.Epoch++
	mac, keyID, err := keys.MAC(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	d.Exec(t, "UPDATE vault.authz_state SET epoch = $1, mac = $2, key_id = $3", snapshot.Epoch, mac, keyID)
}
