package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// remac gives all grants MACs under the active root. seal has still to follow.
func (g *regrant) remac(ctx context.Context) error {
	active, _ := g.keys.ActiveKeyID(integrity.PurposeRow)
	roles := db.RemacRolesParams{KeyID: &active}
	permissions := db.RemacPermissionsParams{KeyID: &active}
	tokens := db.RemacTokensParams{KeyID: &active}
	for id, r := range g.set.roles {
		mac, _, err := g.keys.MAC(r.Role)
		if err != nil {
			return err
		}
		r.mac = mac
		roles.Ids, roles.Macs = append(roles.Ids, id), append(roles.Macs, mac)
		for i := range r.permissions {
			p := &r.permissions[i]
			if p.mac, _, err = g.keys.MAC(p.Permission); err != nil {
				return err
			}
			permissions.RoleIds, permissions.Actions = append(permissions.RoleIds, p.RoleID), append(permissions.Actions, p.Action)
			permissions.Paths, permissions.Macs = append(permissions.Paths, p.Path), append(permissions.Macs, p.mac)
		}
	}
	for id, t := range g.set.tokens {
		mac, _, err := g.keys.MAC(t.Token)
		if err != nil {
			return err
		}
		t.mac = mac
		tokens.Ids, tokens.Macs = append(tokens.Ids, id), append(tokens.Macs, mac)
	}
	if err := exactly(len(roles.Ids))(g.tx.RemacRoles(ctx, roles)); err != nil {
		return err
	}
	if err := exactly(len(permissions.Macs))(g.tx.RemacPermissions(ctx, permissions)); err != nil {
		return err
	}
	return exactly(len(tokens.Ids))(g.tx.RemacTokens(ctx, tokens))
}

// remacAll goes once through all secrets and what remains of deleted ones. left tells that some were held by somebody else.
func (w *keyWork) remacAll(ctx context.Context, r KeyRotation, rotated *KeyRotated) (left bool, err error) {
	active, _ := w.keys.ActiveKeyID(integrity.PurposeRow)
	batches := []func(context.Context, *postgres.Tx, uuid.UUID, uuid.UUID, int32, *KeyRotated) (uuid.UUID, int, error){
		w.remacSecrets, w.remacTombstones,
	}
	for _, batch := range batches {
		for after := (uuid.UUID{}); ; {
			n, did := 0, KeyRotated{}
			err := w.database.InTx(ctx, func(tx *postgres.Tx) (err error) {
				after, n, err = batch(ctx, tx, active, after, int32(min(r.Batch, 10_000)), &did) //nolint:gosec // bounded
				return err
			})
			if err != nil {
				return false, err
			}
			rotated.Secrets += did.Secrets
			rotated.Versions += did.Versions
			rotated.Tombstones += did.Tombstones
			if r.Progress != nil {
				r.Progress(*rotated)
			}
			if n == 0 {
				break
			}
		}
	}
	if err := w.remacControl(ctx, active); err != nil {
		return false, err
	}
	rows, err := w.database.RowsNotUnder(ctx, active)
	return rowsLeft(rows), err
}

// rowsLeft tells whether rows name another root that are to have MACs under the active one.
func rowsLeft(rows db.RowsNotUnderRow) bool {
	return rows.Secrets+rows.Versions+rows.Tombstones+rows.Controls > 0
}

// remacSecrets gives some secrets behind a given one, and all their versions, new MACs. Each row is verified before, under the root
// that it names; the secret goes one revision on, so that what it was can't be put back, and has a
// record that says so.
func (w *keyWork) remacSecrets(ctx context.Context, tx *postgres.Tx, active, after uuid.UUID, limit int32, did *KeyRotated) (uuid.UUID, int, error) {
	secrets, err := tx.SecretsToRemac(ctx, db.SecretsToRemacParams{After: after, KeyID: active, MaxRows: limit})
	if err != nil || len(secrets) == 0 {
		return after, 0, err
	}
	p := db.RemacSecretsParams{KeyID: &active}
	for i := range secrets {
		p.Ids = append(p.Ids, secrets[i].VaultSecret.ID)
	}
	all, err := tx.VersionsToRemac(ctx, p.Ids)
	if err != nil {
		return after, 0, err
	}
	versions := db.RemacVersionsParams{KeyID: &active}
	for i := range secrets {
		s := &secrets[i].VaultSecret
		n := 0
		for n < len(all) && all[n].SecretID == s.ID {
			n++
		}
		if err := w.remacSecret(s, secrets[i].Deleted, all[:n], &versions); err != nil {
			return after, 0, err
		}
		p.Revisions, p.Digests, p.Macs = append(p.Revisions, s.Revision), append(p.Digests, s.VersionsDigest), append(p.Macs, s.Mac)
		all = all[n:]
	}
	if err := exactly(len(versions.Macs))(tx.RemacVersions(ctx, versions)); err != nil {
		return after, 0, err
	}
	if err := exactly(len(p.Ids))(tx.RemacSecrets(ctx, p)); err != nil {
		return after, 0, err
	}
	records := make([]audit.Record, len(secrets))
	for i := range secrets {
		s := &secrets[i].VaultSecret
		records[i] = offlineRecord("keyring rotate", ActionRemac, string(encoded(map[string]any{"secret_id": s.ID.String(), "revision": s.Revision})))
		records[i].SecretName, records[i].Version = s.Name, s.CurrentVersion
	}
	if err := audit.AppendOffline(ctx, tx, w.keys, w.vaultID, "keyring rotate", nil, records...); err != nil {
		return after, 0, err
	}
	did.Secrets += len(p.Ids)
	did.Versions += len(versions.Macs)
	return p.Ids[len(p.Ids)-1], len(p.Ids), nil
}

// remacSecret verifies one secret with all its versions, and makes it what it is to become.
func (w *keyWork) remacSecret(s *db.VaultSecret, deleted bool, versions []db.VersionsToRemacRow, into *db.RemacVersionsParams) error {
	if err := checkSecret(w.keys, s, deleted); err != nil {
		return err
	}
	was, now := make([][]byte, len(versions)), make([][]byte, len(versions))
	for i := range versions {
		v := db.VersionsRow(versions[i])
		row := versionOf(&v)
		err := w.keys.Check(row, v.Mac, v.KeyID)
		if err != nil {
			return fmt.Errorf("%w: version %d of secret %q: %w", errDamaged, v.Version, s.Name, err)
		}
		was[i] = v.Mac
		if now[i], _, err = w.keys.MAC(row); err != nil {
			return err
		}
		into.SecretIds, into.Versions, into.Macs = append(into.SecretIds, s.ID), append(into.Versions, v.Version), append(into.Macs, now[i])
	}
	if err := checkDigest(s, was); err != nil {
		return err
	}
	digest := integrity.DigestVersions(now)
	s.VersionsDigest = digest[:]
	s.Revision++
	mac, _, err := w.keys.MAC(secretOf(s))
	s.Mac = mac
	return err
}

// remacTombstones gives what remains of some deleted secrets new MACs.
func (w *keyWork) remacTombstones(ctx context.Context, tx *postgres.Tx, active, after uuid.UUID, limit int32, did *KeyRotated) (uuid.UUID, int, error) {
	rows, err := tx.TombstonesToRemac(ctx, db.TombstonesToRemacParams{After: after, KeyID: active, MaxRows: limit})
	if err != nil || len(rows) == 0 {
		return after, 0, err
	}
	p := db.RemacTombstonesParams{KeyID: &active}
	for i := range rows {
		row := &rows[i]
		tombstone := integrity.Tombstone{SecretID: row.SecretID, Name: row.Name, Revision: row.Revision, DeletedAt: row.DeletedAt}
		if err := w.keys.Check(tombstone, row.Mac, row.KeyID); err != nil {
			return after, 0, damaged("deleted secret", row.Name, err)
		}
		mac, _, err := w.keys.MAC(tombstone)
		if err != nil {
			return after, 0, err
		}
		p.Ids, p.Macs = append(p.Ids, row.SecretID), append(p.Macs, mac)
	}
	if err := exactly(len(p.Ids))(tx.RemacTombstones(ctx, p)); err != nil {
		return after, 0, err
	}
	did.Tombstones += len(rows)
	return p.Ids[len(p.Ids)-1], len(rows), nil
}

// Unverifiable tells whether an offline command ended because something in the database isn't as the vault wrote it.
func Unverifiable(err error) bool {
	return errors.Is(err, errDamaged) || errors.Is(err, integrity.ErrForged) || errors.Is(err, integrity.ErrRetired)
}
