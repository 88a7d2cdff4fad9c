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
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// Rewrapper adds what a stored data key's wrapping lacks: a keeper that wraps every key under two master keys.
type Rewrapper interface {
	// Whole tells whether a stored key has all the wrappings that it should have.
	Whole(wrapped []byte, keyID string) bool
	// Fill gives what is to be stored in the place of a wrapped key that isn't whole.
	Fill(ctx context.Context, wrapped []byte, keyID string, encryptionContext kms.Context) ([]byte, error)
}

const (
	// rewrapPage is how many versions are looked at by one statement.
	rewrapPage = 256
	// Versions are looked through once an hour, and again soon after a pass that had to stop.
	rewrapEvery = time.Hour
	rewrapRetry = time.Minute
)

// rewrapLoop looks through all versions from time to time and adds the wrappings that they lack, because a key management
// service was away when they were made, or because there was none to add yet. Several processes that do so at once only
// repeat each other's work.
func (v *Vault) rewrapLoop(ctx context.Context) {
	wait := time.Second + rand.N(v.cfg.rewrapAfter) //nolint:gosec // jitter, not a secret
	for pause(ctx, wait) {
		filled, err := v.Rewrap(ctx)
		if filled > 0 {
			v.log.Info("data keys got the wrapping that they lacked", "versions", filled)
		}
		wait = rewrapEvery + rand.N(rewrapEvery/4) //nolint:gosec // jitter, not a secret
		if err != nil && ctx.Err() == nil {
			v.log.Warn("data keys still lack a wrapping: looking through them stopped", "error", err)
			wait = v.cfg.rewrapAfter + rand.N(v.cfg.rewrapAfter) //nolint:gosec // jitter, not a secret
		}
	}
}

// Rewrap looks through all versions, adds the wrappings that they lack, and tells how many got one. Each secret's are changed
// together, with a record in the audit trail. What doesn't verify is an alarm and is passed over; a key management service or a database that
// is away ends it, and what was done stays.
func (v *Vault) Rewrap(ctx context.Context) (filled int, err error) {
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
			done, err := v.rewrapSecret(ctx, rest[:n])
			filled += done
			switch {
			case errors.Is(err, kms.ErrOneSided):
				v.log.Error("a stored version is wrapped by the master key alone that isn't in use: only that one opens it", "secret", rest[0].Name)
			case err != nil && fault.KindOf(err) == fault.Unavailable:
				return filled, fmt.Errorf("secret %q: %w", rest[0].Name, err)
			case err != nil:
				// A row that doesn't verify, or doesn't open, must not keep the others from theirs.
				v.metrics.integrity.WithLabelValues(ActionRewrap).Inc()
				v.log.Error("integrity alarm: a stored version gets no second wrapping", "secret", rest[0].Name, "error", err)
			}
			rest = rest[n:]
		}
		if len(page) < rewrapPage {
			return filled, nil
		}
		after.SecretID, after.Version = page[rewrapPage-1].SecretID, page[rewrapPage-1].Version
	}
}

// rewrapSecret adds what some versions of one secret lack. One that was changed meanwhile is left to the next pass.
func (v *Vault) rewrapSecret(ctx context.Context, versions []db.VersionsToRewrapRow) (filled int, err error) {
	wrapped := map[uuid.UUID][]byte{}
	for i := range versions {
		row := &versions[i]
		if v.cfg.Rewrapper.Whole(row.WrappedDek, row.KmsKeyID) {
			continue
		}
		place := envelope.Place{SecretID: row.SecretID, Name: row.Name, Version: row.Version, VersionUID: row.VersionUid}
		more, err := v.cfg.Rewrapper.Fill(ctx, row.WrappedDek, row.KmsKeyID, dekContext(place))
		if err != nil {
			return 0, err
		}
		wrapped[row.VersionUid] = more
	}
	if len(wrapped) == 0 {
		return 0, nil
	}
	// Under the epoch of grants that verify here, as every change: what is written while another row root comes is under the new one.
	set, err := v.grants.ask(ctx)
	if err != nil {
		return 0, err
	}
	var made *lockedSecret
	a := &attempt{vault: v, who: &identity{actor: "process", epoch: set.epoch}, op: operation{action: ActionRewrap, name: versions[0].Name}}
	err = a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
		filled = 0
		locked, err := a.lock(ctx, tx, versions[0].Name)
		if err != nil {
			return err
		}
		if locked.ID != versions[0].SecretID {
			return errRaced
		}
		if err := a.readVersions(ctx, tx, locked); err != nil {
			return err
		}
		if filled, err = locked.rewrap(ctx, tx, v, versions, wrapped); err != nil {
			return err
		}
		made = locked
		a.note("versions", filled)
		a.noteSecret(locked.ID, locked.Revision+1, locked.CurrentVersion)
		return locked.store(ctx, tx, v.keys)
	})
	v.rows.drop(versions[0].Name)
	if errors.Is(err, postgres.ErrGrantsMoved) || errors.Is(err, errKeysBehind) {
		v.grants.doubt()
		v.keys.RefreshSoon()
		return 0, nil
	}
	if errors.Is(err, errRaced) || errors.Is(err, errNoSecret) {
		return 0, nil
	}
	if err != nil {
		return 0, postgres.Fault(err)
	}
	v.seen.made(&made.VaultSecret)
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
