package vault

import (
	"context"
	"time"

	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Begin records that a value is about to be handed to its target, and gives it: the pending one or, to repair what drifted, the current
// one. From its commit on the target may have the value. That commit, which waits for the synchronous standby where there is one, comes
// after the pending version's own, so that no target has a value that a failover could lose. A nil delivery says that there was nothing left to
// be done, and that the job is over.
func (r *Rotations) Begin(ctx context.Context, j *Job) (d *Delivery, err error) {
	err = retryRaced(ctx, func() error {
		d, err = r.beginOnce(ctx, j)
		return err
	})
	_, err = r.settle(ctx, j, err)
	return d, err
}

func (r *Rotations) beginOnce(ctx context.Context, j *Job) (d *Delivery, err error) {
	work, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	a := r.attempt(ActionRotationApply, j)
	d = &Delivery{SecretID: j.SecretID, Secret: j.Secret}
	defer func() {
		if err != nil {
			d.Release()
			d = nil
		}
		err = r.tell(ctx, a, err)
	}()
	revision, rows, err := r.inspect(work, a, d, j)
	if err != nil {
		return d, err
	}
	// All that may have to be asked of the key management service comes before anything is recorded.
	if err := r.companion(work, a, d); err != nil {
		return d, err
	}
	if err := r.open(work, a, d, rows); err != nil {
		return d, err
	}
	if err := d.alternates(); err != nil {
		return d, err
	}
	if d.Target.Webhook != nil && !d.Target.Webhook.SendValue {
		if err := d.drawFetch(r.v.cfg.Random); err != nil {
			return d, err
		}
	}
	return d, r.begin(work, a, j, d, revision)
}

// inspect reads what there is to deliver, and changes nothing. The revision that it gives is what it was read of.
func (r *Rotations) inspect(ctx context.Context, a *attempt, d *Delivery, j *Job) (revision int64, rows []sealedRow, err error) {
	err = r.v.db.InTx(ctx, func(tx *postgres.Tx) error {
		l, err := a.lock(ctx, tx, j.Secret)
		if err != nil {
			return err
		}
		if l.Target == nil {
			return ErrRetargeted
		}
		if d.Target, err = secret.DecodeTarget(l.Target); err != nil {
			return a.alarm(ctx, l.Name, nil, damaged("secret", l.Name, err))
		}
		if err := a.readVersions(ctx, tx, l); err != nil {
			return err
		}
		deliver := l.deliver(j)
		if deliver == nil {
			return errOvertaken
		}
		wanted := []*db.VersionsRow{deliver}
		switch {
		case j.Reason == ReasonDrift, selfMade(d.Target):
			wanted = append(wanted, l.others(deliver)...)
		case d.Target.Postgres != nil && d.Target.Postgres.Mode == secret.ModeAlternating:
			wanted = append(wanted, l.graced()...)
		}
		d.version, d.Version, revision = *deliver, deliver.Version, l.Revision
		rows, err = l.ciphertexts(ctx, tx, wanted)
		return err
	})
	return revision, rows, postgres.Fault(err)
}

// deliver is the version that a job is to hand to the target, or nil if it is no longer as it was when the job was made. A pending one was
// due when it was made, and every change of the current one gives it up.
func (l *lockedSecret) deliver(j *Job) *db.VersionsRow {
	pending := l.pending()
	switch {
	case l.ID != j.SecretID || l.CurrentVersion != j.BaseVersion:
		return nil
	case j.Reason != ReasonDrift:
		return pending
	case pending != nil:
		return nil // a rotation is on its way, and repairs, too
	}
	return l.current()
}

// graced are the superseded versions that are valid.
func (l *lockedSecret) graced() (rows []*db.VersionsRow) {
	for i := range l.versions {
		if v := &l.versions[i]; v.State == string(secret.Superseded) && secret.Valid(secret.Superseded, v.ExpiresAt, l.now) {
			rows = append(rows, v)
		}
	}
	return rows
}

// alternates tells whether the role whose turn it is may be changed, at a target that has two: while a version of it is valid, somebody may log in
// with that. One that has the value already loses nothing.
func (d *Delivery) alternates() error {
	if d.Target.Postgres == nil || d.Target.Postgres.Mode != secret.ModeAlternating {
		return nil
	}
	var until time.Time
	for _, m := range d.valid {
		if sensitive.Equal(m.Username, d.New.Username) && !m.Equal(d.New) && m.until.After(until) {
			until = m.until
		}
	}
	if until.IsZero() {
		return nil
	}
	return &WaitError{Until: until}
}

// begin takes the job to where the target may have the value.
func (r *Rotations) begin(ctx context.Context, a *attempt, j *Job, d *Delivery, revision int64) error {
	var made *lockedSecret
	err := r.change(ctx, a, func(ctx context.Context, tx *postgres.Tx) error {
		l, err := a.lock(ctx, tx, j.Secret)
		if err != nil {
			return err
		}
		if l.ID != d.SecretID || l.Revision != revision {
			return errRaced
		}
		if err := a.readVersions(ctx, tx, l); err != nil {
			return err
		}
		d.Generation = l.Revision + 1
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
	return err
}

// selfMade tells whether a credential at that target sets itself.
func selfMade(t *secret.Target) bool { return t.Postgres != nil && t.Postgres.LoginSecret == "" }
