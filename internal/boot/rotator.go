package boot

import (
	"context"
	"log/slog"

	"github.com/sealkeep/sealkeep/internal/process"
	"github.com/sealkeep/sealkeep/internal/rotation"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// RotatorProcess is a rotator: it finds what is due and rotates it, and serves its telemetry and nothing else.
type RotatorProcess struct {
	service
	vault   *vault.Rotations
	rotator *rotation.Rotator
}

// NewRotator builds a rotator process, bound to its address and not yet at work. It waits for a primary, and releases cfg, as NewAPI does.
// The caller must either Run or Close what it gets.
//
// Its errors are one line that says what to do.
func NewRotator(ctx context.Context, cfg *Rotator, log *slog.Logger) (*RotatorProcess, error) {
	defer cfg.Release()
	tellConfiguration(log, cfg)
	p := &RotatorProcess{}
	if err := p.build(ctx, cfg, log); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *RotatorProcess) build(ctx context.Context, cfg *Rotator, log *slog.Logger) error {
	err := p.begin(ctx, "rotator", "vault_rotator", cfg.Service, &cfg.keys, log)
	if err != nil {
		return err
	}
	p.vault, err = vault.NewRotations(p.database, p.trail, p.cached, p.keyring, vault.Config{
		Rewrapper: Rewrapper(p.keeper), RewrapPerSecond: cfg.RewrapMaxPerSecond, Log: log, Metrics: p.metrics,
	})
	if err != nil {
		return err
	}
	p.rotator, err = rotation.New(p.vault, newTargets(cfg), rotation.Config{
		Workers: cfg.Workers, Lease: cfg.Lease, Poll: cfg.Poll, MaxPerMinute: cfg.MaxPerMinute, MaxAttempts: cfg.MaxAttempts,
		Log: log, Metrics: p.metrics,
	})
	if err != nil {
		return err
	}
	return p.observe(ctx, p.vault.Ready)
}

// Run rotates until ctx is done, and then stops within the configured time: it calls itself not ready, claims nothing more, gives back
// what it claimed and hasn't begun, finishes what it has, closes the audit trail's streams, and lets the database go. It returns nil if
// all of that succeeded. It is called once; nothing of the process may be used afterwards.
func (p *RotatorProcess) Run(ctx context.Context) error {
	return p.run(
		ctx,
		process.Part{Name: "housekeeping", Start: p.vault.Start, Stop: p.vault.Stop},
		process.Part{Name: "the rotator", Start: p.rotator.Start, Stop: p.stopRotator},
	)
}

// stopRotator leaves a part of the time to the evidence. A job that isn't over by then is cut off and claimed by another rotator when its
// lease has lapsed, which is logged and is no error: a target that doesn't answer must not decide how this process ends.
func (p *RotatorProcess) stopRotator(ctx context.Context) error {
	ctx, cancel := process.MostOf(ctx)
	defer cancel()
	if err := p.rotator.Stop(ctx); err != nil {
		p.log.Warn("rotations that took too long were cut off", "error", err)
	}
	return nil
}
