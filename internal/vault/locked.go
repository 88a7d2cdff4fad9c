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
	if err := l.isAt(b); err != nil {
		return nil, err
	}
	return l, nil
}

// isAt makes sure that a locked secret, whose versions were read, is still what a change was prepared on.
func (l *lockedSecret) isAt(b base) error {
	if current := l.current(); l.ID != b.secretID || l.CurrentVersion != b.version || current == nil || current.VersionUid != b.uid || l.next() != b.next {
		return errRaced
	}
	return nil
}

// next is the number of the next version. Numbers are never used again: of those that were removed none is above the current one's.
func (l *lockedSecret) next() int64 {
	next := l.CurrentVersion + 1
	for i := range l.versions {
		next = max(next, l.versions[i].Version+1)
	}
	return next
}

// pending gives the pending version's row, or nil.
func (l *lockedSecret) pending() *db.VersionsRow {
	for i := range l.versions {
		if l.versions[i].State == string(secret.Pending) {
			return &l.versions[i]
		}
	}
	return nil
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
	if err := l.room(grace); err != nil {
		return err
	}
	if err := l.retire(ctx, tx, keys, grace); err != nil {
		return err
	}
	if err := l.removeEnded(ctx, tx); err != nil {
		return err
	}
	if l.Target == nil {
		// What a target may have had that is no more.
		removed := l.removed
		if err := l.removeAbandoned(ctx, tx); err != nil {
			return err
		}
		l.removed += removed
	}
	if err := l.insert(ctx, tx, keys, sealed, secret.Current); err != nil {
		return err
	}
	l.CurrentVersion = sealed.version
	return nil
}

// ErrTooManyVersions says that the secret has as many valid versions as it may.
var ErrTooManyVersions error = fault.Newf(fault.Conflict,
	"the secret has %d valid versions: wait until one's grace has passed, or shorten grace_period_secs", secret.MaxValidVersions).
	WithCode("too_many_versions")

// room tells whether there may be one more valid version once the current one is superseded. A pending one counts as it will.
func (l *lockedSecret) room(grace time.Duration) error {
	valid := 0
	for i := range l.versions {
		if v := &l.versions[i]; v.State == string(secret.Pending) || secret.Valid(secret.State(v.State), v.ExpiresAt, l.now) {
			valid++
		}
	}
	if grace == 0 {
		valid-- // the current one will not be
	}
	if l.pending() == nil {
		valid++
	}
	if valid > secret.MaxValidVersions {
		return ErrTooManyVersions
	}
	return nil
}

// retire gives the current version its grace. Another one has to take its place.
func (l *lockedSecret) retire(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring, grace time.Duration) error {
	old := l.current()
	expires := l.now.Add(grace)
	old.State, old.ExpiresAt = string(secret.Superseded), &expires
	mac, keyID, err := keys.MAC(versionOf(old))
	if err != nil {
		return err
	}
	old.Mac = mac
	return exactly(1)(tx.SupersedeVersion(ctx, db.SupersedeVersionParams{
		SecretID: l.ID, Version: old.Version, VersionUid: old.VersionUid, ExpiresAt: &expires, Mac: mac, KeyID: &keyID,
	}))
}

// removeEnded removes the superseded versions whose grace has ended, but for the newest, so that a secret that is changed often doesn't
// become ever slower to change and to look up. What may be live at a target stays: pending and abandoned versions, and where there is
// a target all that it may ever have had, until it has proved to take the current one.
func (l *lockedSecret) removeEnded(ctx context.Context, tx *postgres.Tx) error {
	if l.removed = 0; l.Target != nil {
		return nil
	}
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

// insert stores sealed as the next version, whose number it was sealed for.
func (l *lockedSecret) insert(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring, sealed *sealedVersion, state secret.State) error {
	row := sealed.row(l.ID, state, l.now)
	mac, keyID, err := keys.MAC(row)
	if err != nil {
		return err
	}
	l.versions = append(l.versions, db.VersionsRow{
		SecretID: l.ID, Version: sealed.version, VersionUid: sealed.uid, State: string(state), KmsKeyID: row.KMSKeyID, WrappedDek: row.WrappedDEK,
		Nonce: row.Nonce, CiphertextSha256: row.CiphertextSHA256, CreatedAt: l.now, WrappedAt: l.now, Mac: mac, KeyID: &keyID,
	})
	return tx.InsertVersion(ctx, db.InsertVersionParams{
		SecretID: l.ID, Version: sealed.version, VersionUid: sealed.uid, State: string(state), KmsKeyID: sealed.key.KeyID, WrappedDek: sealed.key.Wrapped,
		Nonce: sealed.sealed.Nonce, Ciphertext: sealed.sealed.Ciphertext, CreatedAt: l.now, Mac: mac, KeyID: &keyID,
	})
}

// store writes the secret's row as it has become, one revision on.
func (l *lockedSecret) store(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring) error {
	base := l.Revision
	if err := l.remac(keys); err != nil {
		return err
	}
	return exactly(1)(tx.UpdateSecret(ctx, db.UpdateSecretParams{
		ID: l.ID, Description: l.Description, RotationIntervalSecs: l.RotationIntervalSecs, GracePeriodSecs: l.GracePeriodSecs,
		CurrentVersion: l.CurrentVersion, NextRotationAt: l.NextRotationAt, Target: l.Target, Rotation: l.Rotation,
		CustomMetadata: l.CustomMetadata, UpdatedAt: l.UpdatedAt, Revision: l.Revision, BaseRevision: base,
		VersionsDigest: l.VersionsDigest, Mac: l.Mac, KeyID: l.KeyID,
	}))
}

// advance is store for what a rotation changes, by who may change nothing else.
func (l *lockedSecret) advance(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring) error {
	base := l.Revision
	if err := l.remac(keys); err != nil {
		return err
	}
	return exactly(1)(tx.AdvanceSecret(ctx, db.AdvanceSecretParams{
		ID: l.ID, CurrentVersion: l.CurrentVersion, NextRotationAt: l.NextRotationAt, UpdatedAt: l.UpdatedAt, Revision: l.Revision,
		BaseRevision: base, VersionsDigest: l.VersionsDigest, Mac: l.Mac, KeyID: l.KeyID,
	}))
}

// remac makes the row's next revision, over all versions as they have become.
func (l *lockedSecret) remac(keys *integrity.Keyring) error {
	macs := make([][]byte, len(l.versions))
	for i := range l.versions {
		macs[i] = l.versions[i].Mac
	}
	digest := integrity.DigestVersions(macs)
	l.Revision, l.UpdatedAt, l.VersionsDigest = l.Revision+1, l.now, digest[:]
	mac, keyID, err := keys.MAC(secretOf(&l.VaultSecret))
	if err != nil {
		return err
	}
	l.Mac, l.KeyID = mac, &keyID
	return nil
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
