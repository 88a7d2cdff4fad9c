package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/envelope"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Prepare makes sure that a targeted secret has a pending version: the one that is there, whatever became of the job that made it, or a new
// one. There is never a second.
func (r *Rotations) Prepare(ctx context.Context, j *Job) error {
	err := retryRaced(ctx, func() error { return r.prepareOnce(ctx, j) })
	return r.settle(ctx, j, err)
}

func (r *Rotations) prepareOnce(ctx context.Context, j *Job) error {
	work, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	a := r.attempt(ActionRotationPrepare, j)
	has, err := r.hasPending(work, a, j)
	if err != nil || has {
		return err
	}
	next, on, err := r.next(work, a, j)
	if err != nil {
		return err
	}
	sealed, err := r.v.seal(work, on.secretID, j.Secret, on.next, next)
	next.Release()
	if err != nil {
		return err
	}
	var made *lockedSecret
	err = r.change(work, a, func(ctx context.Context, tx *postgres.Tx) error {
		l, err := a.lockBase(ctx, tx, j.Secret, on)
		if err != nil {
			return err
		}
		if l.Target == nil {
			return ErrRetargeted
		}
		if l.pending() != nil {
			return errRaced
		}
		if _, err := a.due(ctx, l, j); err != nil {
			return err
		}
		if err := l.room(secret.Seconds(l.GracePeriodSecs)); err != nil {
			return err
		}
		if err := l.insert(ctx, tx, r.v.keys, sealed, secret.Pending); err != nil {
			return err
		}
		made = l
		a.noteSecret(l.ID, l.Revision+1, l.CurrentVersion)
		a.note("pending_version", sealed.version)
		if err := l.advance(ctx, tx, r.v.keys); err != nil {
			return err
		}
		return mine(tx.MoveJob(ctx, db.MoveJobParams{ID: j.ID, ClaimID: &j.Claim, Step: StepPrepared}))
	})
	if err == nil {
		r.v.seen.made(&made.VaultSecret)
	}
	return err
}

// hasPending tells whether there is a pending version already. It asks no more than the rows' states: what is done with one is decided
// when it is verified.
func (r *Rotations) hasPending(ctx context.Context, a *attempt, j *Job) (bool, error) {
	row, err := a.find(ctx, j.Secret)
	if err != nil {
		return false, err
	}
	if row.Target == nil {
		return false, ErrRetargeted
	}
	rows, err := r.v.db.Versions(ctx, row.ID)
	if err != nil {
		return false, postgres.Fault(err)
	}
	return slices.ContainsFunc(rows, func(v db.VersionsRow) bool { return v.State == string(secret.Pending) }), nil
}

// abandon gives up a pending version, if there is one: it might be live at the target, so that it stays until a newer one is proven.
// advance or store have still to follow.
func (a *attempt) abandon(ctx context.Context, tx *postgres.Tx, l *lockedSecret) error {
	return l.move(ctx, tx, a.vault, l.pending(), secret.Abandoned)
}

// move gives a pending version its next state.
func (l *lockedSecret) move(ctx context.Context, tx *postgres.Tx, v *Vault, row *db.VersionsRow, to secret.State) error {
	if row == nil {
		return nil
	}
	row.State = string(to)
	mac, keyID, err := v.keys.MAC(versionOf(row))
	if err != nil {
		return err
	}
	row.Mac, row.KeyID = mac, &keyID
	return exactly(1)(tx.MoveVersion(ctx, db.MoveVersionParams{
		SecretID: l.ID, Version: row.Version, VersionUid: row.VersionUid, State: row.State, Mac: mac, KeyID: &keyID,
	}))
}

// Delivery is what a rotation hands to a target. The receiver releases it.
type Delivery struct {
	SecretID   uuid.UUID
	Secret     string
	Target     *secret.Target
	Version    int64
	Generation int64 // of this attempt: newer than that of any before it
	New        secret.Material
	// Login is what sets it, at a target that has a login secret; else the zero value.
	Login secret.Material
	// Before is what the target may take until then, the likeliest first, where the credential sets itself.
	Before []secret.Material
	// Keys sign what a webhook is sent, the newest first.
	Keys []sensitive.Bytes
	// Fetch lets a webhook's receiver fetch New once, until FetchUntil; zero if the value is sent.
	Fetch      sensitive.Bytes
	FetchUntil time.Time

	version db.VersionsRow
	fetch   access.Fingerprint
}

// Release zeroes what it holds. It is safe to call twice.
func (d *Delivery) Release() {
	if d == nil {
		return
	}
	d.New.Release()
	d.Login.Release()
	for _, m := range d.Before {
		m.Release()
	}
	for _, k := range d.Keys {
		k.Release()
	}
	d.Fetch.Release()
}

// EventID names a step of this delivery: the same step of the same delivery has the same one.
func (d *Delivery) EventID(step string) uuid.UUID {
	return uuid.NewSHA1(d.SecretID, fmt.Appendf(nil, "%s %d %s", step, d.Generation, d.version.VersionUid))
}

// WaitError says that a rotation has to wait: the role that is to change still has a valid version.
type WaitError struct{ Until time.Time }

func (e *WaitError) Error() string {
	return "the other role's version is valid until " + e.Until.UTC().Format(time.RFC3339)
}

// sealedRow is a version that was verified, with its ciphertext.
type sealedRow struct {
	db.VersionsRow
	format     string
	ciphertext []byte
}

// Begin records that a value is about to be handed to its target, and gives it: the pending one or, to repair what drifted, the current
// one. From its commit on the target may have the value. That commit, which waits for the synchronous standby where there is one, comes
// after the pending version's own, so that no target has a value that a failover could lose.
func (r *Rotations) Begin(ctx context.Context, j *Job) (d *Delivery, err error) {
	err = retryRaced(ctx, func() error {
		d, err = r.beginOnce(ctx, j)
		return err
	})
	return d, r.settle(ctx, j, err)
}

func (r *Rotations) beginOnce(ctx context.Context, j *Job) (*Delivery, error) {
	work, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	a := r.attempt(ActionRotationApply, j)
	row, err := a.find(work, j.Secret)
	if err != nil {
		return nil, err
	}
	if row.Target == nil {
		return nil, ErrRetargeted
	}
	d := &Delivery{SecretID: row.ID, Secret: row.Name}
	if d.Target, err = secret.DecodeTarget(row.Target); err != nil {
		return nil, a.alarm(work, row.Name, nil, damaged("secret", row.Name, err))
	}
	if err := r.companion(work, a, d); err != nil {
		d.Release()
		return nil, err
	}
	if d.Target.Webhook != nil && !d.Target.Webhook.SendValue {
		if err := d.drawFetch(r.v.cfg.Random); err != nil {
			return nil, err
		}
	}
	rows, err := r.begin(work, a, j, d, string(row.Target))
	if err == nil {
		err = r.openDelivery(work, a, d, rows)
	}
	if err != nil {
		d.Release()
		return nil, err
	}
	return d, nil
}

// begin is the step: it takes the job to where the target may have the value.
func (r *Rotations) begin(ctx context.Context, a *attempt, j *Job, d *Delivery, target string) ([]sealedRow, error) {
	var (
		made *lockedSecret
		rows []sealedRow
	)
	err := r.change(ctx, a, func(ctx context.Context, tx *postgres.Tx) error {
		rows = nil
		l, err := a.lock(ctx, tx, j.Secret)
		if err != nil {
			return err
		}
		if string(l.Target) != target {
			return errRaced
		}
		if err := a.readVersions(ctx, tx, l); err != nil {
			return err
		}
		deliver := l.pending()
		if j.Reason == ReasonDrift {
			if deliver != nil {
				return errOvertaken
			}
			deliver = l.current()
		}
		if deliver == nil {
			return errOvertaken
		}
		if err := l.alternates(d.Target, j); err != nil {
			return err
		}
		wanted := []*db.VersionsRow{deliver}
		if selfMade(d.Target) {
			wanted = append(wanted, l.others(deliver)...)
		}
		if rows, err = l.ciphertexts(ctx, tx, wanted); err != nil {
			return err
		}
		d.version, d.Version, d.Generation = *deliver, deliver.Version, l.Revision+1
		if err := r.grantFetch(ctx, tx, a, d, l.now); err != nil {
			return err
		}
		made = l
		a.noteSecret(l.ID, l.Revision+1, l.CurrentVersion)
		a.note("applied_version", d.Version)
		a.note("generation", d.Generation)
		a.note("target", d.Target.Type())
		if err := l.advance(ctx, tx, r.v.keys); err != nil {
			return err
		}
		return mine(tx.MoveJob(ctx, db.MoveJobParams{ID: j.ID, ClaimID: &j.Claim, Step: StepApplying}))
	})
	if err == nil {
		r.v.seen.made(&made.VaultSecret)
	}
	return rows, err
}

// alternates tells whether the role whose turn it is may be changed: while a version of it is valid somebody may log in with that. A rollback
// gives it the password that it has.
func (l *lockedSecret) alternates(t *secret.Target, j *Job) error {
	if t.Postgres == nil || t.Postgres.Mode != secret.ModeAlternating || j.Reason == ReasonRollback || j.Reason == ReasonDrift {
		return nil
	}
	var until time.Time
	for i := range l.versions {
		v := &l.versions[i]
		if v.State == string(secret.Superseded) && v.ExpiresAt.After(l.now) && v.ExpiresAt.After(until) {
			until = *v.ExpiresAt
		}
	}
	if until.IsZero() {
		return nil
	}
	return &WaitError{Until: until}
}

// selfMade tells whether a credential at that target sets itself.
func selfMade(t *secret.Target) bool { return t.Postgres != nil && t.Postgres.LoginSecret == "" }

// ciphertexts reads those of some versions.
func (l *lockedSecret) ciphertexts(ctx context.Context, tx *postgres.Tx, versions []*db.VersionsRow) ([]sealedRow, error) {
	rows := make([]sealedRow, len(versions))
	for i, v := range versions {
		ciphertext, err := tx.Ciphertext(ctx, db.CiphertextParams{SecretID: l.ID, Version: v.Version, VersionUid: v.VersionUid})
		if err != nil {
			return nil, err
		}
		rows[i] = sealedRow{*v, l.Format, ciphertext}
	}
	return rows, nil
}

// others are the versions that a credential may be known by at its target besides that one, the likeliest first.
func (l *lockedSecret) others(deliver *db.VersionsRow) []*db.VersionsRow {
	var rows []*db.VersionsRow
	if current := l.current(); current != nil && current != deliver {
		rows = append(rows, current)
	}
	for i := range slices.Backward(l.versions) {
		if v := &l.versions[i]; v != deliver && v.Version != l.CurrentVersion {
			rows = append(rows, v)
		}
	}
	return rows
}

// openDelivery opens what was read under the lock.
func (r *Rotations) openDelivery(ctx context.Context, a *attempt, d *Delivery, rows []sealedRow) error {
	for i := range rows {
		row := &rows[i]
		m, err := r.v.open(ctx, stored{
			place:  envelope.Place{SecretID: row.SecretID, Name: d.Secret, Version: row.Version, VersionUID: row.VersionUid},
			format: row.format, kmsKeyID: row.KmsKeyID, wrappedDEK: row.WrappedDek,
			sealed: envelope.Sealed{Nonce: row.Nonce, Ciphertext: row.ciphertext},
		})
		switch {
		case err != nil && i > 0 && errors.Is(err, errDamaged):
			r.v.log.ErrorContext(ctx, "a version that may be live at its target doesn't open", "secret", d.Secret, "version", row.Version, "error", err)
		case err != nil:
			return a.alarm(ctx, d.Secret, &row.Version, err)
		case i == 0:
			d.New = m
		default:
			d.Before = append(d.Before, m)
		}
	}
	return nil
}

// companion opens the secret that a target's change takes: the login that sets passwords, or the keys that sign.
func (r *Rotations) companion(ctx context.Context, a *attempt, d *Delivery) error {
	switch t := d.Target; {
	case t.Postgres != nil && t.Postgres.LoginSecret != "":
		s, err := a.companion(ctx, t.Postgres.LoginSecret, false)
		if err != nil {
			return err
		}
		if err := a.companionSuits(ctx, t, s); err != nil {
			return err
		}
		if d.Login, err = r.v.openCurrent(ctx, s); err != nil {
			return a.alarm(ctx, s.Name, &s.CurrentVersion, err)
		}
		a.note("login_secret", s.Name)
		a.note("login_version", s.CurrentVersion)
	case t.Webhook != nil:
		s, err := a.companion(ctx, t.Webhook.SigningSecret, true)
		if err != nil {
			return err
		}
		if err := a.companionSuits(ctx, t, s); err != nil {
			return err
		}
		now := r.v.trail.DatabaseTime()
		for i := range s.Versions {
			v := &s.Versions[i]
			if len(d.Keys) == maxSigningKeys || !secret.Valid(secret.State(v.State), v.ExpiresAt, now) {
				continue
			}
			m, err := r.v.open(ctx, storedAs(s, v))
			if err != nil {
				return a.alarm(ctx, s.Name, &v.Version, err)
			}
			d.Keys = append(d.Keys, m.Value)
			m.Username.Release()
		}
		a.note("signing_secret", s.Name)
		a.note("signing_version", s.CurrentVersion)
	}
	return nil
}

// maxSigningKeys is how many versions of a signing secret sign: the current one, and the one before it while that is valid.
const maxSigningKeys = 2

func (a *attempt) companion(ctx context.Context, name string, all bool) (*sealedSecret, error) {
	f, err := a.vault.lookups.get(ctx, all, name)
	if err != nil {
		return nil, err
	}
	s, err := a.genuine(ctx, f, name)
	if errors.Is(err, errNoSecret) {
		return nil, fault.Newf(fault.Invalid, "the secret %s, which the target names, doesn't exist", name).WithCode("no_such_companion")
	}
	return s, err
}

// Promote makes the pending version that the target took the current one, and completes the job.
func (r *Rotations) Promote(ctx context.Context, j *Job, d *Delivery) error {
	err := retryRaced(ctx, func() error { return r.promoteOnce(ctx, j, d) })
	return r.settle(ctx, j, err)
}

func (r *Rotations) promoteOnce(ctx context.Context, j *Job, d *Delivery) error {
	work, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	action := ActionRotate
	if j.Reason == ReasonRollback {
		action = ActionRollback
	}
	a := r.attempt(action, j)
	var made *lockedSecret
	err := r.change(work, a, func(ctx context.Context, tx *postgres.Tx) error {
		l, err := a.lock(ctx, tx, j.Secret)
		if err != nil {
			return err
		}
		if err := a.readVersions(ctx, tx, l); err != nil {
			return err
		}
		pending := l.pending()
		if pending == nil || pending.VersionUid != d.version.VersionUid || l.current() == nil {
			return errOvertaken
		}
		p, err := planOf(&l.VaultSecret)
		if err != nil {
			return a.alarm(ctx, l.Name, nil, err)
		}
		if err := l.retire(ctx, tx, r.v.keys, secret.Seconds(l.GracePeriodSecs)); err != nil {
			return err
		}
		if err := l.move(ctx, tx, r.v, pending, secret.Current); err != nil {
			return err
		}
		l.CurrentVersion = pending.Version
		if err := l.removeAbandoned(ctx, tx); err != nil {
			return err
		}
		l.NextRotationAt = p.next(l)
		made = l
		if err := tx.ProbeSoon(ctx, l.ID); err != nil {
			return err
		}
		a.noteSecret(l.ID, l.Revision+1, l.CurrentVersion)
		a.noteRemoved(l.removed)
		a.note("generation", d.Generation)
		if err := l.advance(ctx, tx, r.v.keys); err != nil {
			return err
		}
		return complete(ctx, tx, j, outcomeRotated)
	})
	if err == nil {
		r.v.seen.made(&made.VaultSecret)
	}
	return err
}

// removeAbandoned removes what was kept because the target might have it, now that it has proved to have a newer version.
func (l *lockedSecret) removeAbandoned(ctx context.Context, tx *postgres.Tx) error {
	var old []int64
	l.versions = slices.DeleteFunc(l.versions, func(v db.VersionsRow) bool {
		gone := v.State == string(secret.Abandoned) && v.Version < l.CurrentVersion
		if gone {
			old = append(old, v.Version)
		}
		return gone
	})
	if l.removed = len(old); l.removed == 0 {
		return nil
	}
	return exactly(len(old))(tx.RemoveAbandoned(ctx, db.RemoveAbandonedParams{SecretID: l.ID, Versions: old}))
}

// Finish ends a job that repaired what drifted, or found that nothing had.
func (r *Rotations) Finish(ctx context.Context, j *Job, repaired bool) error {
	if repaired {
		return r.end(ctx, j, outcomeRepaired)
	}
	return r.end(ctx, j, outcomeUnneeded)
}
