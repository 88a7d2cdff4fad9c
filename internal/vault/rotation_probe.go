package vault

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// Probe is a try of a targeted secret's current version at its target that is due.
type Probe struct {
	SecretID uuid.UUID
	Secret   string

	version uuid.UUID // that was tried last
	ok      bool
	class   string
}

// probeHold is how long a probe that was claimed is left to whoever claimed it.
const probeHold = time.Minute

// Probes claims at most limit tries that are due.
func (r *Rotations) Probes(ctx context.Context, limit int) ([]Probe, error) {
	rows := int32(limit) //nolint:gosec // some dozens
	if err := r.v.db.EnsureProbes(ctx, rows); err != nil {
		return nil, postgres.Fault(err)
	}
	claimed, err := r.v.db.ClaimProbes(ctx, db.ClaimProbesParams{MaxRows: rows, HoldSecs: probeHold.Seconds()})
	if err != nil {
		return nil, postgres.Fault(err)
	}
	probes := make([]Probe, len(claimed))
	for i, row := range claimed {
		probes[i] = Probe{SecretID: row.SecretID, Secret: row.Name, version: row.VersionUid, ok: row.Ok, class: row.Class}
	}
	return probes, nil
}

// Look gives what is to be tried: the current version, and in Before the others that the target may know. It is nil where there is nothing
// to try now: the secret has no target any more, or a job may be changing it. Nothing is handed to a target; a login proves that both sides know
// a password, and doesn't send it.
func (r *Rotations) Look(ctx context.Context, p *Probe) (*Delivery, error) {
	work, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	a := r.probing(p)
	d := &Delivery{SecretID: p.SecretID, Secret: p.Secret}
	rows, err := r.look(work, a, p, d)
	if err == nil && rows != nil {
		if err = r.companionOfProbe(work, a, d); err == nil {
			err = r.open(work, a, d, rows)
		}
	}
	err = r.tell(ctx, a, err)
	if err != nil || rows == nil {
		d.Release()
		return nil, err
	}
	return d, nil
}

// companionOfProbe opens the keys that a webhook is asked with. A login secret isn't needed to log in.
func (r *Rotations) companionOfProbe(ctx context.Context, a *attempt, d *Delivery) error {
	if d.Target.Webhook == nil {
		return nil
	}
	return r.companion(ctx, a, d)
}

func (r *Rotations) probing(p *Probe) *attempt {
	return &attempt{
		vault: r.v, who: &identity{actor: r.v.trail.Actor()}, caller: Caller{RequestID: "probe:" + p.SecretID.String()},
		op: operation{action: ActionRotationProbe, name: p.Secret},
	}
}

func (r *Rotations) look(ctx context.Context, a *attempt, p *Probe, d *Delivery) (rows []sealedRow, err error) {
	err = r.v.db.InTx(ctx, func(tx *postgres.Tx) error {
		l, err := a.lock(ctx, tx, p.Secret)
		if errors.Is(err, errNoSecret) || err == nil && (l.ID != p.SecretID || l.Target == nil) {
			return tx.DropProbe(ctx, p.SecretID)
		}
		if err != nil {
			return err
		}
		if job, err := openJob(ctx, tx, l); err != nil || job != nil && job.Step == StepApplying && job.DeadAt == nil {
			return err
		}
		if d.Target, err = secret.DecodeTarget(l.Target); err != nil {
			return a.alarm(ctx, l.Name, nil, damaged("secret", l.Name, err))
		}
		if err := a.readVersions(ctx, tx, l); err != nil {
			return err
		}
		current := l.current()
		if current == nil {
			return a.alarm(ctx, l.Name, &l.CurrentVersion, errNotCurrent)
		}
		d.version, d.Version, d.Generation, d.tried = *current, current.Version, l.Revision, l.now
		rows, err = l.ciphertexts(ctx, tx, append([]*db.VersionsRow{current}, l.others(current)...))
		return err
	})
	return rows, postgres.Fault(err)
}

// Probed is what a try found.
type Probed struct {
	OK      bool
	Class   string // of the refusal
	Message string
	Pause   time.Duration // until the next one
	// Repair asks for a job that applies the current version again: another one works in its place.
	Repair bool
}

// Tell notes what a try of the delivery that Look gave has found. What is new about it is recorded. Where the secret has moved on since, a
// refusal may have been of a version that a rotation was just replacing: nothing is noted, and it is tried again.
func (r *Rotations) Tell(ctx context.Context, p *Probe, d *Delivery, found Probed) error {
	set := db.SetProbeParams{
		SecretID: p.SecretID, VersionUid: d.version.VersionUid, Ok: found.OK, PauseSecs: found.Pause.Seconds(), Revision: d.Generation,
	}
	if !found.OK {
		message := found.Message[:min(len(found.Message), maxFailure)]
		set.Class, set.Message = &found.Class, &message
	}
	isNew := p.ok != found.OK || !found.OK && p.class != found.Class || p.version != d.version.VersionUid
	a := r.probing(p)
	a.version = d.Version
	if !found.OK {
		a.outcome = found.Class
		a.note("message", *set.Message)
	}
	if found.Repair {
		made, err := r.repair(ctx, a, p, d, set)
		if made || err != nil {
			return err
		}
	}
	if !isNew {
		_, err := r.v.db.SetProbe(ctx, set)
		return postgres.Fault(err)
	}
	err := r.change(ctx, a, func(ctx context.Context, tx *postgres.Tx) error {
		if err := still(tx.SetProbe(ctx, set)); err != nil || !found.OK {
			return err
		}
		ended, err := tx.EndRepair(ctx, p.SecretID)
		if ended > 0 {
			a.note("repairs_ended", ended)
		}
		return err
	})
	if errors.Is(err, errOvertaken) {
		return nil
	}
	return err
}

// still tells whether a secret is as it was looked at.
func still(rows int64, err error) error {
	if err == nil && rows == 0 {
		return errOvertaken
	}
	return err
}

// errUnderRepair says that the secret has a job already.
var errUnderRepair = errors.New("the secret has a job already")

// repair makes the job that applies the current version again, if the secret has none.
func (r *Rotations) repair(ctx context.Context, a *attempt, p *Probe, d *Delivery, set db.SetProbeParams) (made bool, err error) {
	id, err := uuid.NewRandomFromReader(r.v.cfg.Random)
	if err != nil {
		return false, fault.Wrap(fault.Internal, err, "")
	}
	a.note("job_id", id)
	err = r.change(ctx, a, func(ctx context.Context, tx *postgres.Tx) error {
		n, err := tx.InsertJob(ctx, db.InsertJobParams{
			ID: id, SecretID: p.SecretID, Reason: ReasonDrift, DueAt: r.v.trail.DatabaseTime(), BaseVersion: d.Version,
		})
		if err == nil && n == 0 {
			err = errUnderRepair
		}
		if err != nil {
			return err
		}
		if err := tx.WakeRotators(ctx); err != nil {
			return err
		}
		return still(tx.SetProbe(ctx, set))
	})
	if errors.Is(err, errOvertaken) {
		return true, nil
	}
	if errors.Is(err, errUnderRepair) {
		delete(a.detail, "job_id")
		return false, nil
	}
	return err == nil, err
}
