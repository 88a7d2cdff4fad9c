package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/envelope"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/limit"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// Rewrapper adds what a stored data key's wrapping lacks: a keeper that wraps every key under two master keys.
type Rewrapper interface {
	// Prepare makes sure that Whole knows the keys that it compares with, which it may have to ask for.
	Prepare(ctx context.Context) error
	// Whole tells whether a stored key has all the wrappings that it should have.
	Whole(wrapped []byte, keyID string) bool
	// Fill gives what is to be stored in the place of a wrapped key that isn't whole.
	Fill(ctx context.Context, wrapped []byte, keyID string, encryptionContext kms.Context) ([]byte, error)
}

const (
	// rewrapPage is how many versions are looked at by one statement.
	rewrapPage = 256
	// One process at a time looks through the versions, once an hour, and again soon after a pass that had to stop. The others ask
	// now and then whether it still does.
	rewrapEvery = time.Hour
	rewrapAsk   = 5 * time.Minute
	rewrapRetry = time.Minute
	// rewrapTries is how often a secret is tried within a pass while the grants or the keyring change.
	rewrapTries = 3
)

// rewrapping is the work of looking through all versions from time to time and adding the wrappings that they lack, because a key
// management service was away when they were made, or because there was none to add yet. Processes that do so at once would only
// repeat each other's work, so the first keeps it to itself until it ends or fails.
type rewrapping struct {
	vault *Vault
	alone *postgres.Alone // nil while another process does it
}

func (v *Vault) rewrapLoop(ctx context.Context) {
	r := &rewrapping{vault: v}
	defer func() { r.release(ctx) }()
	wait := time.Second + rand.N(rewrapRetry) //nolint:gosec // jitter, not a secret
	for pause(ctx, wait) {
		wait = r.turn(ctx)
		wait += rand.N(wait / 4) //nolint:gosec // jitter, not a secret
	}
}

// turn looks through all versions if that is this process's work, and gives the pause until the next turn.
func (r *rewrapping) turn(ctx context.Context) time.Duration {
	v := r.vault
	if r.alone != nil && !r.alone.Held(ctx) {
		r.release(ctx)
	}
	if r.alone == nil {
		alone, err := v.db.Alone(ctx, "rewrap")
		switch {
		case errors.Is(err, postgres.ErrTaken):
			v.stillLack(0, true) // the other one tells
			return rewrapAsk
		case err != nil:
			v.log.Debug("data keys were not looked through", "error", err)
			return rewrapRetry
		}
		r.alone = alone
	}
	filled, err := v.Rewrap(ctx)
	if filled > 0 {
		v.log.Info("data keys got the wrapping that they lacked", "versions", filled)
	}
	if err == nil {
		return rewrapEvery
	}
	if ctx.Err() == nil {
		v.log.Warn("data keys still lack a wrapping: looking through them stopped", "error", err)
	}
	r.release(ctx) // what stands in this process's way may not stand in another's
	return rewrapRetry
}

// release leaves the work to others.
func (r *rewrapping) release(ctx context.Context) {
	if r.alone != nil {
		r.alone.Release(ctx)
		r.alone = nil
	}
}

// Rewrap looks through all versions, adds the wrappings that they lack, and tells how many got one. Each secret's are changed
// together, with a record in the audit trail. What doesn't verify is an alarm and is passed over; a key management service or a database that
// is away ends it, and what was done stays. How many still lack one is told by a metric.
func (v *Vault) Rewrap(ctx context.Context) (filled int, err error) {
	found := 0
	defer func() { v.stillLack(found-filled, err == nil) }()
	if err := v.cfg.Rewrapper.Prepare(ctx); err != nil {
		return 0, keeperFault("asking which key is the one that data keys may lack", err)
	}
	after := db.VersionsToRewrapParams{MaxRows: rewrapPage}
	for {
		page, err := v.db.VersionsToRewrap(ctx, after)
		if err != nil {
			return filled, postgres.Fault(err)
		}
		for rest := page; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].SecretID == rest[0].SecretID {
				n++
			}
			found += v.lack(rest[:n])
			done, err := v.rewrapSecret(ctx, rest[:n])
			filled += done
			switch {
			case errors.Is(err, kms.ErrOneSided):
				v.log.Error("a stored version is wrapped by the master key alone that isn't in use: only that one opens it", "secret", rest[0].Name)
			case err != nil && fault.KindOf(err) == fault.Unavailable:
				return filled, fmt.Errorf("secret %q: %w", rest[0].Name, err)
			case err != nil:
				// A row that doesn't verify, or doesn't open, must not keep the others from theirs.
				v.log.Error("a stored version gets no second wrapping", "secret", rest[0].Name, "error", err)
			}
			rest = rest[n:]
		}
		if len(page) < rewrapPage {
			return filled, nil
		}
		after.SecretID, after.Version = page[rewrapPage-1].SecretID, page[rewrapPage-1].Version
	}
}

// lack counts the versions that lack a wrapping.
func (v *Vault) lack(versions []db.VersionsToRewrapRow) (n int) {
	for i := range versions {
		if !v.cfg.Rewrapper.Whole(versions[i].WrappedDek, versions[i].KmsKeyID) {
			n++
		}
	}
	return n
}

// rewrapSecret adds what some versions of one secret lack. One that was changed meanwhile is left to the next pass.
func (v *Vault) rewrapSecret(ctx context.Context, versions []db.VersionsToRewrapRow) (filled int, err error) {
	freshKeys := false
	for range rewrapTries {
		filled, err = v.rewrapOnce(ctx, versions, freshKeys)
		switch {
		case errors.Is(err, errRaced), errors.Is(err, errNoSecret):
			return 0, nil
		case errors.Is(err, postgres.ErrGrantsMoved):
			v.grants.doubt()
		case errors.Is(err, errKeysBehind):
			if err := v.refreshKeys(ctx); err != nil {
				return 0, err
			}
			freshKeys = true
		default:
			return filled, err
		}
	}
	return 0, nil
}

// rewrapOnce is one attempt. It has no caller, so that it doesn't pass the gate; its change and the record of that are committed as
// those of any other are, and what doesn't verify is recorded and raises the alarm.
func (v *Vault) rewrapOnce(ctx context.Context, versions []db.VersionsToRewrapRow, freshKeys bool) (filled int, err error) {
	work := limit.New(ctx, workLimit, v.cfg.Clock)
	defer work.End()
	a := &attempt{
		vault: v, who: &identity{actor: v.trail.Actor()}, op: operation{action: ActionRewrap, name: versions[0].Name}, freshKeys: freshKeys,
	}
	wrapped, err := a.fill(work, versions)
	if err == nil && len(wrapped) == 0 {
		return 0, nil
	}
	if err == nil {
		filled, err = a.rewrap(work, versions, wrapped)
	}
	// Where nothing was changed, and nothing found, there is nothing to be recorded.
	if err != nil && a.outcome != outcomeUnverifiable && !errors.Is(err, postgres.ErrOutcomeUnknown) {
		return 0, err
	}
	if _, err := a.conclude(ctx, err); err != nil {
		return 0, err
	}
	return filled, nil
}

// fill gives the wrappings of those versions that lack one, by the version's uid.
func (a *attempt) fill(ctx context.Context, versions []db.VersionsToRewrapRow) (map[uuid.UUID][]byte, error) {
	wrapped := map[uuid.UUID][]byte{}
	for i := range versions {
		row := &versions[i]
		if a.vault.cfg.Rewrapper.Whole(row.WrappedDek, row.KmsKeyID) {
			continue
		}
		place := envelope.Place{SecretID: row.SecretID, Name: row.Name, Version: row.Version, VersionUID: row.VersionUid}
		more, err := a.vault.cfg.Rewrapper.Fill(ctx, row.WrappedDek, row.KmsKeyID, dekContext(place))
		if errors.Is(err, kms.ErrInvalidCiphertext) || errors.Is(err, kms.ErrUnknownKey) {
			return nil, a.alarm(ctx, row.Name, &row.Version, fmt.Errorf("%w: its DEK doesn't unwrap in its place: %w", errDamaged, err))
		}
		if err != nil {
			return nil, keeperFault("wrapping a data key a second time", err)
		}
		wrapped[row.VersionUid] = more
	}
	return wrapped, nil
}

// rewrap changes one secret.
func (a *attempt) rewrap(ctx context.Context, versions []db.VersionsToRewrapRow, wrapped map[uuid.UUID][]byte) (filled int, err error) {
	// Under the epoch of grants that verify here, as every change: what is written while another row root comes is under the new one.
	set, err := a.vault.grants.ask(ctx)
	if err != nil {
		return 0, err
	}
	a.who.epoch = set.epoch
	var made *lockedSecret
	err = a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
		filled = 0
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
		if filled, err = locked.rewrap(ctx, tx, a.vault, versions, wrapped); err != nil {
			return err
		}
		made = locked
		a.note("versions", filled)
		a.noteSecret(locked.ID, locked.Revision+1, locked.CurrentVersion)
		return locked.store(ctx, tx, a.vault.keys)
	})
	if err != nil {
		return 0, postgres.Fault(err)
	}
	a.vault.seen.made(&made.VaultSecret)
	return filled, nil
}

// rewrap stores new wrappings of versions that are still wrapped as they were. store has still to follow.
func (l *lockedSecret) rewrap(ctx context.Context, tx *postgres.Tx, v *Vault, as []db.VersionsToRewrapRow, wrapped map[uuid.UUID][]byte) (int, error) {
	n := 0
	for i := range l.versions {
		row := &l.versions[i]
		more, ok := wrapped[row.VersionUid]
		if !ok {
			continue
		}
		for j := range as {
			ok = ok && (as[j].VersionUid != row.VersionUid || bytes.Equal(as[j].WrappedDek, row.WrappedDek))
		}
		if !ok {
			return 0, errRaced
		}
		old := row.WrappedDek
		row.WrappedDek, row.WrappedAt = more, l.now
		mac, keyID, err := v.keys.MAC(versionOf(row))
		if err != nil {
			return 0, err
		}
		row.Mac = mac
		err = exactly(1)(tx.RewrapVersion(ctx, db.RewrapVersionParams{
			SecretID: l.ID, Version: row.Version, VersionUid: row.VersionUid, OldWrappedDek: old, WrappedDek: more, WrappedAt: l.now, Mac: mac, KeyID: &keyID,
		}))
		if err != nil {
			return 0, err
		}
		n++
	}
	if n == 0 {
		return 0, errRaced
	}
	return n, nil
}
