package vault

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

var (
	errPutBack = errors.New("an older state of it was put back")
	errNull    = errors.New("a column of it is NULL that never is")
	errFork    = errors.New("another state of the same revision was seen before: an older one was put back and changed")
	errDeleted = errors.New("it was deleted, and is back")
	errVanish  = errors.New("it is gone, and nobody deleted it")
	errOthers  = errors.New("its versions aren't those that it was written with: one was added, removed or put back")
)

// secretOf is a secret's row as its MAC has it.
func secretOf(s *db.VaultSecret) integrity.Secret {
	return integrity.Secret{
		ID: s.ID, Name: s.Name, Kind: s.Kind, Format: s.Format, Description: s.Description, RotationIntervalSecs: s.RotationIntervalSecs,
		GracePeriodSecs: s.GracePeriodSecs, CurrentVersion: s.CurrentVersion, NextRotationAt: s.NextRotationAt, Target: s.Target,
		CustomMetadata: s.CustomMetadata, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, Revision: s.Revision, VersionsDigest: s.VersionsDigest,
		Rotation: s.Rotation,
	}
}

// versionOf is a version's row as its MAC has it.
func versionOf(v *db.VersionsRow) integrity.Version {
	return integrity.Version{
		SecretID: v.SecretID, Version: v.Version, UID: v.VersionUid, State: v.State, KMSKeyID: v.KmsKeyID, WrappedDEK: v.WrappedDek,
		Nonce: v.Nonce, CiphertextSHA256: v.CiphertextSha256, CreatedAt: v.CreatedAt, ExpiresAt: v.ExpiresAt, WrappedAt: v.WrappedAt,
	}
}

// sealedOf is a version that was looked up as its MAC has it.
func sealedOf(s *postgres.SealedSecret, v *postgres.SealedVersion) integrity.Version {
	hash := v.Hash
	if hash == nil {
		sum := sha256.Sum256(v.Ciphertext)
		hash = sum[:]
	}
	return integrity.Version{
		SecretID: s.ID, Version: v.Version, UID: v.UID, State: v.State, KMSKeyID: v.KMSKeyID, WrappedDEK: v.WrappedDEK,
		Nonce: v.Nonce, CiphertextSHA256: hash, CreatedAt: v.CreatedAt, ExpiresAt: v.ExpiresAt, WrappedAt: v.WrappedAt,
	}
}

// checkSecret verifies a secret's row. Of each that is taken up its statement tells whether there is a record of its having been deleted:
// such a one was put back, however true its MAC.
func (v *Vault) checkSecret(s *db.VaultSecret, deleted bool) error {
	return checkSecret(v.keys, s, deleted)
}

func checkSecret(keys *integrity.Keyring, s *db.VaultSecret, deleted bool) error {
	if err := keys.Check(secretOf(s), s.Mac, s.KeyID); err != nil {
		return damaged("secret", s.Name, err)
	}
	if deleted {
		return damaged("secret", s.Name, errDeleted)
	}
	return nil
}

// checkVersions verifies all versions' rows of a secret whose own row was verified, each and as a whole.
func (v *Vault) checkVersions(s *db.VaultSecret, versions []db.VersionsRow) error {
	return checkVersions(v.keys, s, versions)
}

func checkVersions(keys *integrity.Keyring, s *db.VaultSecret, versions []db.VersionsRow) error {
	macs := make([][]byte, len(versions))
	for i := range versions {
		row := &versions[i]
		if err := keys.Check(versionOf(row), row.Mac, row.KeyID); err != nil {
			return fmt.Errorf("%w: version %d of secret %q: %w", errDamaged, row.Version, s.Name, err)
		}
		macs[i] = row.Mac
	}
	return checkDigest(s, macs)
}

func checkDigest(s *db.VaultSecret, macs [][]byte) error {
	if digest := integrity.DigestVersions(macs); string(digest[:]) != string(s.VersionsDigest) {
		return damaged("secret", s.Name, errOthers)
	}
	return nil
}

// checkSealed verifies what was looked up: the secret's row and those of the versions that came with it, and that the secret has these
// versions and no others.
func (v *Vault) checkSealed(s *postgres.SealedSecret) error {
	if err := v.checkSecret(&s.VaultSecret, s.Deleted); err != nil {
		return err
	}
	if s.Null {
		return damaged("secret", s.Name, errNull)
	}
	all := slices.Concat(s.Versions, s.Others)
	for i := range all {
		version := &all[i]
		if err := v.keys.Check(sealedOf(s, version), version.MAC, version.KeyID); err != nil {
			return fmt.Errorf("%w: version %d of secret %q: %w", errDamaged, version.Version, s.Name, err)
		}
	}
	if !s.All {
		// A row of its own secret and number that was never committed, or whose change was undone, verifies by itself.
		for i := range all {
			if !slices.ContainsFunc(s.MACs, func(mac []byte) bool { return bytes.Equal(mac, all[i].MAC) }) {
				return damaged("secret", s.Name, errOthers)
			}
		}
		return checkDigest(&s.VaultSecret, s.MACs)
	}
	// Which are valid was decided by columns that count only now that they are verified.
	slices.SortFunc(all, func(a, b postgres.SealedVersion) int { return cmp.Compare(a.Version, b.Version) })
	macs := make([][]byte, len(all))
	for i := range all {
		macs[i] = all[i].MAC
	}
	return checkDigest(&s.VaultSecret, macs)
}

// checkRevision holds a secret that was read after since against what this process has seen of it. sure tells that it is no older
// than anything that was known when it came.
func (v *Vault) checkRevision(ctx context.Context, in tombstones, s *db.VaultSecret, since int64) (sure bool, err error) {
	seen := v.seen.see(s, since)
	if seen == replaced {
		// Whoever bore the name has been deleted, or this is a former bearer that was put back in its place.
		if err := v.checkMissing(ctx, in, s.Name, since); err != nil {
			return false, err
		}
		seen = v.seen.see(s, since)
	}
	switch seen {
	case older:
		return false, damaged("secret", s.Name, errPutBack)
	case forked:
		return false, damaged("secret", s.Name, errFork)
	case plausible:
		return true, nil
	default:
		return false, nil
	}
}

// tombstones is where what remains of deleted secrets is read: the pool, or the transaction that has a connection already.
type tombstones interface {
	DeletedSecret(ctx context.Context, secretID uuid.UUID) (db.VaultDeletedSecret, error)
}

// checkMissing tells whether a name that was not found after since is one that nobody has, or whose secret was deleted. A secret that
// this process has seen leaves something behind when it is deleted.
func (v *Vault) checkMissing(ctx context.Context, in tombstones, name string, since int64) error {
	id, borne := v.seen.borne(name, since)
	if !borne {
		return nil
	}
	row, err := in.DeletedSecret(ctx, id)
	if postgres.IsNotFound(err) {
		return damaged("secret", name, errVanish)
	}
	if err != nil {
		return postgres.Fault(err)
	}
	tombstone := integrity.Tombstone{SecretID: row.SecretID, Name: row.Name, Revision: row.Revision, DeletedAt: row.DeletedAt}
	if err := v.keys.Check(tombstone, row.Mac, row.KeyID); err != nil {
		return damaged("deleted secret", name, err)
	}
	if row.Name != name {
		return damaged("deleted secret", name, errVanish)
	}
	v.seen.buried(id, name, row.Revision)
	return nil
}
