package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// errRaced means that the secret moved between the look at it and the transaction. What was sealed for the old place can't be
// stored in the new one, so everything starts over.
var errRaced = errors.New("the secret was changed meanwhile")

// maxRaces bounds how often a change starts over before the caller is told.
const maxRaces = 12

// retryRaced runs try until it doesn't lose a race. KMS calls happen outside transactions, so a change is optimistic: it looks,
// seals, and then compares under the row's lock.
func retryRaced(ctx context.Context, try func() error) error {
	for race := 0; ; race++ {
		err := try()
		if !errors.Is(err, errRaced) {
			return err
		}
		if race == maxRaces {
			return fault.Wrap(fault.Conflict, err, "others keep changing this secret: try again").WithCode("contended")
		}
		pause := time.NewTimer(time.Duration(rand.Int64N(int64(race+1)*int64(2*time.Millisecond)) + 1)) //nolint:gosec // jitter, not a secret
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
}

// base is the state that a change was prepared on.
type base struct {
	secretID uuid.UUID
	version  int64
	uid      uuid.UUID
}

func baseOf(row *versionRow) (base, error) {
	if row.Version == nil || row.VersionUid == nil || row.State == nil || *row.State != string(secret.Current) {
		return base{}, errNotCurrent
	}
	return base{secretID: row.SecretID, version: *row.Version, uid: *row.VersionUid}, nil
}

// lockBase locks the secret's row and makes sure that it is still what the change was prepared on.
func lockBase(ctx context.Context, tx *postgres.Tx, name string, b base) (db.LockSecretRow, error) {
	row, err := tx.LockSecret(ctx, name)
	if postgres.IsNotFound(err) {
		return row, errNoSecret
	}
	if err != nil {
		return row, err
	}
	if row.ID != b.secretID || row.CurrentVersion != b.version {
		return row, errRaced
	}
	uid, err := tx.CurrentVersionUID(ctx, db.CurrentVersionUIDParams{SecretID: row.ID, Version: row.CurrentVersion})
	if postgres.IsNotFound(err) || (err == nil && uid != b.uid) {
		return row, errRaced
	}
	return row, err
}

// supersede makes sealed the current version and gives the old one its grace.
func supersede(ctx context.Context, tx *postgres.Tx, b base, sealed *sealedVersion, grace, interval time.Duration) (time.Time, error) {
	var none time.Time
	valid, err := tx.CountValidVersions(ctx, b.secretID)
	if err != nil {
		return none, err
	}
	if grace == 0 {
		valid-- // the current one will not be
	}
	if valid+1 > secret.MaxValidVersions {
		return none, fault.Newf(fault.Conflict,
			"the secret has %d valid versions: wait until one's grace has passed, or shorten grace_period_secs", secret.MaxValidVersions).
			WithCode("too_many_versions")
	}
	moved, err := tx.SupersedeVersion(ctx, db.SupersedeVersionParams{
		SecretID: b.secretID, Version: b.version, VersionUid: b.uid, GracePeriodSecs: grace.Seconds(),
	})
	if err != nil {
		return none, err
	}
	if moved != 1 {
		return none, errRaced
	}
	createdAt, err := tx.InsertVersion(ctx, sealed.params(b.secretID, b.version+1))
	if err != nil {
		return none, err
	}
	moved, err = tx.AdvanceSecret(ctx, db.AdvanceSecretParams{
		ID: b.secretID, Version: b.version + 1, BaseVersion: b.version, NextRotationInSecs: secondsOf(interval),
	})
	if err == nil && moved != 1 {
		err = errRaced
	}
	return createdAt, err
}

// holds tells whether the precondition allows a change of the version that is current.
func (p Precondition) holds(version int64, uid uuid.UUID) error {
	if (len(p.Tags) == 0 && !p.Any) || p.Any || secret.MatchesStrong(p.Tags, secret.ETag(version, uid)) {
		return nil
	}
	return fault.New(fault.PreconditionFailed, "the secret has changed since: read it again")
}
