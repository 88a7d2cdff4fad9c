package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/envelope"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/limit"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// Rewrapper is a keeper as it wraps stored data keys again: because a wrapping is lacking, or the master key is another one, or has new
// material. See kms.Recoverable.
type Rewrapper interface {
	// Prepare makes sure that Judge knows the master keys that it compares with, which it may have to ask for.
	Prepare(ctx context.Context) error
	// LearnRotations asks when the master keys got new material. An error says why Judge can't tell.
	LearnRotations(ctx context.Context) error
	// Judge tells whether a stored key is to be wrapped again, and why.
	Judge(stored kms.Stored) kms.Wrapping
	// Fill gives what is to be stored in the place of a wrapped key that isn't whole, and the master key that its row is to name.
	Fill(ctx context.Context, stored kms.Stored, encryptionContext kms.Context) (wrapped []byte, keyID string, err error)
}

// rewrapPage is how many versions are looked at by one statement.
const rewrapPage = 256

// Rewrapped is what a look through all versions found and did.
type Rewrapped struct {
	Found  int64 // versions that were to be wrapped again
	Done   int64 // that were
	Failed int64 // that weren't: they are damaged, or their master key can't be asked
	Lack   int64 // of those that are left, that one of two master keys doesn't wrap
}

// Rewrap looks through all versions and wraps those again whose data keys aren't wrapped by the master keys as they are now. A secret's are
// changed together, with a record in the audit trail. What is whole is passed over, so that a look that was interrupted is gone on with by the
// next one. What doesn't verify is an alarm, and keeps no other from its turn; nor does a master key that can't be asked keep those under
// another one, but the look ends in an error then. A KMS or a database that is away ends it at once.
func (r *Rotations) Rewrap(ctx context.Context) (Rewrapped, error) {
	l := &rewrapLook{r: r, away: map[string]error{}}
	err := l.begin(ctx)
	if err == nil {
		err = l.through(ctx)
	}
	l.end(ctx, err)
	return l.did, err
}

// rewrapLook is one look through all versions.
type rewrapLook struct {
	r    *Rotations
	did  Rewrapped
	note rewrapNote
	away map[string]error // master keys that can't be asked
}

func (l *rewrapLook) through(ctx context.Context) error {
	after := db.VersionsToRewrapParams{MaxRows: rewrapPage}
	for {
		page, err := l.r.v.db.VersionsToRewrap(ctx, after)
		if err != nil {
			return postgres.Fault(err)
		}
		for rest := page; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].SecretID == rest[0].SecretID {
				n++
			}
			if err := l.one(ctx, rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		if len(page) < rewrapPage {
			return l.stopped()
		}
		after.SecretID, after.Version = page[rewrapPage-1].SecretID, page[rewrapPage-1].Version
	}
}

// stopped is why not all that could have been done was.
func (l *rewrapLook) stopped() error {
	var all []error
	for _, err := range l.away {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// stored is a version's wrapped key.
func (l *rewrapLook) stored(v *db.VersionsToRewrapRow) kms.Stored {
	return kms.Stored{Wrapped: v.WrappedDek, KeyID: v.KmsKeyID, WrappedAt: v.WrappedAt, Again: v.WrappedAt.Before(l.note.again)}
}

// one does what is to be done for some versions of one secret. An error ends the look.
func (l *rewrapLook) one(ctx context.Context, versions []db.VersionsToRewrapRow) error {
	var todo []db.VersionsToRewrapRow
	lack := int64(0)
	for i := range versions {
		switch l.r.v.cfg.Rewrapper.Judge(l.stored(&versions[i])) {
		case kms.Whole:
			continue
		case kms.Lacking:
			lack++
		default:
		}
		l.did.Found++
		if l.away[versions[i].KmsKeyID] != nil {
			l.did.Failed++
			continue
		}
		todo = append(todo, versions[i])
	}
	l.did.Lack += lack
	if len(todo) == 0 {
		return nil
	}
	if !l.r.pace.wait(ctx, len(todo)) {
		return fault.Wrap(fault.Unavailable, ctx.Err(), "")
	}
	done, err := l.rewrap(ctx, todo)
	l.did.Done += int64(done)
	if done == len(todo) {
		l.did.Lack -= lack
	}
	log := l.r.v.log
	var away *keyAway
	switch {
	case errors.Is(err, errRaced), errors.Is(err, errNoSecret): // it is left to the next look
	case errors.As(err, &away):
		l.did.Failed += int64(len(todo))
		l.away[away.keyID] = fmt.Errorf("secret %q: %w", todo[0].Name, err)
	case errors.Is(err, kms.ErrOneSided):
		l.did.Failed += int64(len(todo))
		log.Error("a stored version is wrapped by the master key alone that isn't in use: only that one opens it", "secret", todo[0].Name)
	case err != nil && fault.KindOf(err) == fault.Unavailable:
		return fmt.Errorf("secret %q: %w", todo[0].Name, err)
	case err != nil:
		l.did.Failed += int64(len(todo))
		log.Error("a stored version is not wrapped again", "secret", todo[0].Name, "error", err)
	}
	l.progress(ctx)
	return nil
}

// keyAway is a failure of one master key.
type keyAway struct {
	keyID string // as rows name it
	err   error
}

func (e *keyAway) Error() string { return e.err.Error() }
func (e *keyAway) Unwrap() error { return e.err }

// rewrap wraps some versions of one secret again. Nobody asked for it, so that it doesn't pass the gate; its change and the record of that
// are committed as those of any step are, and what doesn't verify is recorded and raises the alarm.
func (l *rewrapLook) rewrap(ctx context.Context, versions []db.VersionsToRewrapRow) (int, error) {
	a := l.r.own(ActionRewrap, versions[0].Name)
	wrapped, err := l.fill(ctx, a, versions)
	if err == nil {
		err = l.store(ctx, a, versions, wrapped)
	}
	switch {
	case err == nil:
		l.r.house.rewrapped.Add(float64(len(wrapped)))
		return len(wrapped), nil
	case a.outcome == outcomeUnverifiable && wrapped == nil: // found before anything was to be changed
		_, err = a.conclude(ctx, err)
	}
	return 0, err
}

// rewrapping is what a version's data key is wrapped as from now on.
type rewrapping struct {
	was     []byte
	wrapped []byte
	keyID   string
}

// fill has versions wrapped again, by their uid. It asks KMS, so that it is outside of any transaction.
func (l *rewrapLook) fill(ctx context.Context, a *attempt, versions []db.VersionsToRewrapRow) (map[uuid.UUID]rewrapping, error) {
	wrapped := make(map[uuid.UUID]rewrapping, len(versions))
	for i := range versions {
		row := &versions[i]
		work := limit.New(ctx, workLimit, l.r.v.cfg.Clock)
		place := envelope.Place{SecretID: row.SecretID, Name: row.Name, Version: row.Version, VersionUID: row.VersionUid}
		next, keyID, err := l.r.v.cfg.Rewrapper.Fill(work, l.stored(row), dekContext(place))
		work.End()
		switch {
		case errors.Is(err, kms.ErrInvalidCiphertext) || errors.Is(err, kms.ErrUnknownKey):
			return nil, a.alarm(ctx, row.Name, &row.Version, fmt.Errorf("%w: its DEK doesn't unwrap in its place: %w", errDamaged, err))
		case err != nil && kms.OfKey(err):
			return nil, &keyAway{row.KmsKeyID, keeperFault("wrapping a data key again", err)}
		case err != nil:
			return nil, keeperFault("wrapping a data key again", err)
		}
		wrapped[row.VersionUid] = rewrapping{row.WrappedDek, next, keyID}
	}
	return wrapped, nil
}

// store changes one secret.
func (l *rewrapLook) store(ctx context.Context, a *attempt, versions []db.VersionsToRewrapRow, wrapped map[uuid.UUID]rewrapping) error {
	r := l.r
	work := limit.New(ctx, workLimit, r.v.cfg.Clock)
	defer work.End()
	var made *lockedSecret
	err := r.change(work, a, func(ctx context.Context, tx *postgres.Tx) error {
		locked, err := a.lock(ctx, tx, a.op.name)
		if err != nil {
			return err
		}
		if locked.ID != versions[0].SecretID {
			return errRaced
		}
		if err := a.readVersions(ctx, tx, locked); err != nil {
			return err
		}
		if err := locked.rewrap(ctx, tx, r.v, wrapped); err != nil {
			return err
		}
		made = locked
		a.note("versions", len(wrapped))
		a.note("kms_key_id", wrapped[versions[0].VersionUid].keyID)
		a.noteSecret(locked.ID, locked.Revision+1, locked.CurrentVersion)
		return locked.advance(ctx, tx, r.v.keys)
	})
	if err == nil {
		r.v.seen.made(&made.VaultSecret)
	}
	return err
}

// rewrap stores new wrappings of versions if all of them are still wrapped as they were. advance has still to follow.
func (l *lockedSecret) rewrap(ctx context.Context, tx *postgres.Tx, v *Vault, wrapped map[uuid.UUID]rewrapping) error {
	n := 0
	for i := range l.versions {
		row := &l.versions[i]
		next, ok := wrapped[row.VersionUid]
		if !ok {
			continue
		}
		if !bytes.Equal(next.was, row.WrappedDek) {
			return errRaced
		}
		row.WrappedDek, row.KmsKeyID, row.WrappedAt = next.wrapped, next.keyID, l.now
		mac, keyID, err := v.keys.MAC(versionOf(row))
		if err != nil {
			return err
		}
		row.Mac = mac
		err = exactly(1)(tx.RewrapVersion(ctx, db.RewrapVersionParams{
			SecretID: l.ID, Version: row.Version, VersionUid: row.VersionUid, OldWrappedDek: next.was,
			KmsKeyID: next.keyID, WrappedDek: next.wrapped, WrappedAt: l.now, Mac: mac, KeyID: &keyID,
		}))
		if err != nil {
			return err
		}
		n++
	}
	if n < len(wrapped) { // a version is gone
		return errRaced
	}
	return nil
}
