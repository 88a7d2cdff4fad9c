package vault

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// lockedSecret is a secret under its row's lock, with all its versions, every row verified: what is changed is never taken from
// anything else. What changes is dated by the transaction's time.
type lockedSecret struct {
	db.VaultSecret
	versions []db.VersionsRow // by version
	removed  int              // of them, by this change
	now      time.Time
}

// lock locks a secret's row and verifies it. What doesn't verify is an alarm.
func (a *attempt) lock(ctx context.Context, tx *postgres.Tx, name string) (*lockedSecret, error) {
	since := a.vault.seen.begin()
	row, err := tx.LockSecret(ctx, name)
	if postgres.IsNotFound(err) {
		if err := a.vault.checkMissing(ctx, tx, name, since); err != nil {
			return nil, a.alarm(ctx, name, nil, err)
		}
		return nil, errNoSecret
	}
	if err != nil {
		return nil, err
	}
	l := &lockedSecret{VaultSecret: row.VaultSecret, now: row.ReadAt}
	err = a.vault.checkSecret(&l.VaultSecret, row.Deleted)
	if err == nil {
		var sure bool
		if sure, err = a.vault.checkRevision(ctx, tx, &l.VaultSecret, since); err == nil && !sure {
			// Under the row's lock nothing newer can be known than what was read.
			err = damaged("secret", name, errPutBack)
		}
	}
	if err != nil {
		return nil, a.alarm(ctx, name, &l.CurrentVersion, err)
	}
	return l, nil
}

// readVersions reads and verifies all versions of a locked secret.
func (a *attempt) readVersions(ctx context.Context, tx *postgres.Tx, l *lockedSecret) (err error) {
	if l.versions, err = tx.Versions(ctx, l.ID); err != nil {
		return err
	}
	if err := a.vault.checkVersions(&l.VaultSecret, l.versions); err != nil {
		return a.alarm(ctx, l.Name, &l.CurrentVersion, err)
	}
	return nil
}

// lockBase locks a secret and makes sure that it is still what a change was prepared on.
func (a *attempt) lockBase(ctx context.Context, tx *postgres.Tx, name string, b base) (*lockedSecret, error) {
	l, err := a.lock(ctx, tx, name)
	if err != nil {
		return nil, err
	}
	if l.ID != b.secretID || l.CurrentVersion != b.version {
		return nil, errRaced
	}
	if err := a.readVersions(ctx, tx, l); err != nil {
		return nil, err
	}
	if current := l.current(); current == nil || current.VersionUid != b.uid {
		return nil, errRaced
	}
	return l, nil
}

// current gives the current version's row, or nil.
func (l *lockedSecret) current() *db.VersionsRow {
	for i := range l.versions {
		if v := &l.versions[i]; v.Version == l.CurrentVersion && v.State == string(secret.Current) {
			return v
		}
	}
	return nil
}

// supersede makes sealed the current version and gives the old one its grace. store has still to follow.
func (l *lockedSecret) supersede(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring, sealed *sealedVersion, grace time.Duration) error {
	valid := 0
	for i := range l.versions {
		if v := &l.versions[i]; v.State == string(secret.Pending) || secret.Valid(secret.State(v.State), v.ExpiresAt, l.now) {
			valid++
		}
	}
	if grace == 0 {
		valid-- // the current one will not be
	}
	if valid+1 > secret.MaxValidVersions {
		return fault.Newf(fault.Conflict,
			"the secret has %d valid versions: wait until one's grace has passed, or shorten grace_period_secs", secret.MaxValidVersions).
			WithCode("too_many_versions")
	}
	old := l.current()
	expires := l.now.Add(grace)
	old.State, old.ExpiresAt = string(secret.Superseded), &expires
	mac, keyID, err := keys.MAC(versionOf(old))
	if err != nil {
		return err
	}
	old.Mac = mac
	err = exactly(1)(tx.SupersedeVersion(ctx, db.SupersedeVersionParams{
		SecretID: l.ID, Version: old.Version, VersionUid: old.VersionUid, ExpiresAt: &expires, Mac: mac, KeyID: &keyID,
	}))
	if err != nil {
		return err
	}
	if err := l.removeEnded(ctx, tx); err != nil {
		return err
	}
	return l.insert(ctx, tx, keys, sealed)
}

// removeEnded removes the superseded versions whose grace has ended, but for the newest, so that a secret that is changed often doesn't
// become ever slower to change and to look up. What may be live at a target, pending and abandoned versions, stays.
func (l *lockedSecret) removeEnded(ctx context.Context, tx *postgres.Tx) error {
	ended := 0
	var old []int64
	for i := range slices.Backward(l.versions) {
		v := &l.versions[i]
		if v.State != string(secret.Superseded) || secret.Valid(secret.Superseded, v.ExpiresAt, l.now) {
			continue
		}
		if ended++; ended > secret.MaxEndedVersions {
			old = append(old, v.Version)
		}
	}
	if l.removed = len(old); l.removed == 0 {
		return nil
	}
	l.versions = slices.DeleteFunc(l.versions, func(v db.VersionsRow) bool { return slices.Contains(old, v.Version) })
	return exactly(l.removed)(tx.RemoveEndedVersions(ctx, db.RemoveEndedVersionsParams{SecretID: l.ID, Versions: old}))
}

// insert stores sealed as the next version.
func (l *lockedSecret) insert(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring, sealed *sealedVersion) error {
	next := l.CurrentVersion + 1
	mac, keyID, err := keys.MAC(sealed.row(l.ID, next, l.now))
	if err != nil {
		return err
	}
	l.CurrentVersion = next
	l.versions = append(l.versions, db.VersionsRow{SecretID: l.ID, Version: next, VersionUid: sealed.uid, State: string(secret.Current), Mac: mac})
	return tx.InsertVersion(ctx, db.InsertVersionParams{
		SecretID: l.ID, Version: next, VersionUid: sealed.uid, KmsKeyID: sealed.key.KeyID, WrappedDek: sealed.key.Wrapped,
		Nonce: sealed.sealed.Nonce, Ciphertext: sealed.sealed.Ciphertext, CreatedAt: l.now, Mac: mac, KeyID: &keyID,
	})
}

// store writes the secret's row as it has become, one revision on.
func (l *lockedSecret) store(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring) error {
	base := l.Revision
	macs := make([][]byte, len(l.versions))
	for i := range l.versions {
		macs[i] = l.versions[i].Mac
	}
	digest := integrity.DigestVersions(macs)
	l.Revision, l.UpdatedAt, l.VersionsDigest = base+1, l.now, digest[:]
	mac, keyID, err := keys.MAC(secretOf(&l.VaultSecret))
	if err != nil {
		return err
	}
	l.Mac, l.KeyID = mac, &keyID
	return exactly(1)(tx.UpdateSecret(ctx, db.UpdateSecretParams{
		ID: l.ID, Description: l.Description, RotationIntervalSecs: l.RotationIntervalSecs, GracePeriodSecs: l.GracePeriodSecs,
		CurrentVersion: l.CurrentVersion, NextRotationAt: l.NextRotationAt, CustomMetadata: l.CustomMetadata, UpdatedAt: l.UpdatedAt,
		Revision: l.Revision, BaseRevision: base, VersionsDigest: l.VersionsDigest, Mac: mac, KeyID: &keyID,
	}))
}

// bury removes the secret and all its versions, and leaves what says so.
func (l *lockedSecret) bury(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring) error {
	tombstone := integrity.Tombstone{SecretID: l.ID, Name: l.Name, Revision: l.Revision + 1, DeletedAt: l.now}
	mac, keyID, err := keys.MAC(tombstone)
	if err != nil {
		return err
	}
	return exactly(1)(tx.DeleteSecret(ctx, db.DeleteSecretParams{
		ID: l.ID, Name: l.Name, Revision: tombstone.Revision, BaseRevision: l.Revision, DeletedAt: l.now, Mac: mac, KeyID: &keyID,
	}))
}

// uid gives the version_uid of the current version, zero if there is none.
func (l *lockedSecret) uid() uuid.UUID {
	if current := l.current(); current != nil {
		return current.VersionUid
	}
	return uuid.Nil
}
