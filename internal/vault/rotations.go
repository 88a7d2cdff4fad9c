package vault

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// Rotations is a vault as a rotator has it: what is due, and the steps by which it rotates. Nobody asks for them, so that they don't
// pass the gate: what is to be done is said by the secret's own row, which is MACed, and never by a job's. Each step is one transaction that
// also commits its evidence and takes effect only while the job is still the caller's (I7).
//
// It sees no grants. Steps are made under the grants' epoch all the same: a new root of rows raises it, and what would still be
// written under the old one is rolled back.
type Rotations struct {
	v     *Vault
	epoch atomic.Int64 // under which the keyring was read last; 0 before the first
	house *houseMetrics
	pace  *pace
}

// ErrClaimLost says that the job isn't the caller's any more: its lease lapsed and another took it, or it is over, or its secret is gone.
// Nothing was changed.
var ErrClaimLost = errors.New("the claim on the job was lost")

// stepTries is how often a step is tried while the grants or the keyring change.
const stepTries = 5

// NewRotations makes what a rotator works with, of a database whose schema was checked and a started trail, as New does. What cfg says of
// readers means nothing here.
func NewRotations(database *postgres.DB, trail *audit.Trail, keeper Keeper, keys *integrity.Keyring, cfg Config) (*Rotations, error) {
	v, err := newVault(database, trail, keeper, keys, cfg)
	if err != nil {
		return nil, err
	}
	return &Rotations{v: v, house: newHouseMetrics(v.cfg.Metrics), pace: newPace(v.cfg.RewrapPerSecond, v.cfg.Clock)}, nil
}

// Start begins to look up what is to be rotated, and housekeeping: audit partitions; versions whose grace has ended go; data keys are wrapped
// again where that is due. It waits for none of it. Starting twice is the same as once.
func (r *Rotations) Start(ctx context.Context) error {
	loops := []func(context.Context){r.v.ensurePartitions, r.v.lookups.run, r.v.followKeyring, r.purgeLoop}
	if r.v.cfg.Rewrapper != nil {
		loops = append(loops, r.rewrapLoop)
	}
	return r.v.start(ctx, loops...)
}

// Stop ends what Start began. It is safe twice, and unstarted.
func (r *Rotations) Stop(ctx context.Context) error { return r.v.Stop(ctx) }

// Ready tells whether rotations can be made: the database answers and evidence can be committed.
func (r *Rotations) Ready(ctx context.Context) error { return r.v.Ready(ctx) }

// attempt begins a step of a job.
func (r *Rotations) attempt(action string, j *Job) *attempt {
	return &attempt{
		vault: r.v, who: &identity{actor: r.v.trail.Actor()}, caller: Caller{RequestID: "job:" + j.ID.String()},
		op: operation{action: action, name: j.Secret, detail: map[string]any{"job_id": j.ID, "reason": j.Reason, "attempt": j.Attempt}},
	}
}

// own begins what no job asks for.
func (r *Rotations) own(action, name string) *attempt {
	return &attempt{vault: r.v, who: &identity{actor: r.v.trail.Actor()}, op: operation{action: action, name: name}}
}

// change commits one step and its evidence. fn may run several times, each time on a fresh transaction. What doesn't verify is
// recorded, and is an alarm; any other failure leaves nothing behind.
func (r *Rotations) change(ctx context.Context, a *attempt, fn func(context.Context, *postgres.Tx) error) error {
	err := r.tries(ctx, a, fn)
	if err != nil && a.outcome != outcomeUnverifiable && !errors.Is(err, postgres.ErrOutcomeUnknown) {
		return err
	}
	a.told = true
	_, concluded := a.conclude(ctx, err)
	if concluded != nil {
		return concluded
	}
	return err
}

// tell records damage that was found before anything was changed. Other errors pass.
func (r *Rotations) tell(ctx context.Context, a *attempt, err error) error {
	if a.outcome != outcomeUnverifiable || a.told {
		return err
	}
	a.told = true
	if _, concluded := a.conclude(ctx, err); concluded != nil {
		return concluded
	}
	return err
}

func (r *Rotations) tries(ctx context.Context, a *attempt, fn func(context.Context, *postgres.Tx) error) (err error) {
	for range stepTries {
		if a.who.epoch, err = r.currentEpoch(ctx); err != nil {
			return err
		}
		err = a.change(ctx, fn)
		switch {
		case errors.Is(err, postgres.ErrGrantsMoved):
			r.epoch.Store(0)
		case errors.Is(err, errKeysBehind):
			if err := r.v.refreshKeys(ctx); err != nil {
				return err
			}
			a.freshKeys = true
		default:
			return postgres.Fault(err)
		}
	}
	return fault.Wrap(fault.Unavailable, fmt.Errorf("the keyring keeps changing: %w", err), "")
}

// currentEpoch gives the epoch to work under. The keyring that is held is no older than it.
func (r *Rotations) currentEpoch(ctx context.Context) (int64, error) {
	if epoch := r.epoch.Load(); epoch != 0 {
		return epoch, nil
	}
	state, err := r.v.db.AuthzState(ctx)
	if err != nil {
		return 0, postgres.Fault(err)
	}
	if state.VaultID != r.v.vaultID {
		return 0, fault.Wrap(fault.Internal, damaged("vault", state.VaultID.String(), errors.New("it isn't the one that this process serves")), "")
	}
	if err := r.v.refreshKeys(ctx); err != nil {
		return 0, err
	}
	r.epoch.Store(state.Epoch)
	return state.Epoch, nil
}

// Paused tells whether all rotation is paused. An error means that it can't be told, and then nothing is rotated.
func (r *Rotations) Paused(ctx context.Context) (bool, error) {
	row, err := r.v.control(ctx)
	if errors.Is(err, errDamaged) {
		r.v.alarmControl(ctx, ActionPauseAll, err)
		err = fault.Wrap(fault.Internal, err, "")
	}
	return err != nil || row != nil && row.Paused, err
}

// Job is work that was claimed.
type Job struct {
	ID          uuid.UUID
	Claim       uuid.UUID // fences whatever is done for it
	SecretID    uuid.UUID
	Secret      string // its name
	Reason      string // one of the Reason constants
	DueAt       time.Time
	BaseVersion int64
	Attempt     int // from 1
	Step        string
	Targeted    bool // the secret had a target when the job was claimed
}

// Why a job was made.
const (
	ReasonScheduled = "scheduled" // the secret was due
	ReasonManual    = "manual"    // somebody asked for it
	ReasonRollback  = "rollback"  // somebody asked for an older value
	ReasonDrift     = "drift"     // the target no longer takes the current value
)

// How far a job has come.
const (
	StepQueued   = "queued"
	StepPrepared = "prepared" // there is a pending version
	StepApplying = "applying" // the target may have it
)
