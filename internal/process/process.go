// Package process runs a program from its first line to its last: it starts the parts of a process in order, waits until
// it is told to stop or a part fails, and stops the parts in the opposite order within a time that is set.
//
// Invariants:
//   - I1: a hardened process leaves no core dump, and no other process of its user can read its memory.
//   - I2, I3: what was begun is finished. A process that is told to stop calls itself not ready, takes no new requests,
//     lets those in flight end, and only then stops what records them.
//   - A client that sends or reads slowly, or not at all, holds a connection for a bounded time.
package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Version is the version of the program, set when it is linked
// (-X github.com/sealkeep/sealkeep/internal/process.Version=…).
var Version = "dev"

// Part is something that a process starts and stops.
type Part struct {
	Name string // for the log
	// Start returns when the part works. Its context is for the start alone, and ends when the process is told to stop:
	// what was started goes on until Stop, or else a request in flight would lose what it stands on. Nil means that
	// nothing is to start.
	Start func(context.Context) error
	// Stop returns when the part has finished, or with an error soon after its context ends. It is called once, also
	// after a Start that failed half way, and never without Start. Nil means that nothing is to stop.
	Stop func(context.Context) error
	// Failed gives an error should the part fail by itself once it works. Nil means that it can't.
	Failed <-chan error
}

// Run starts the parts in order and stops them in the opposite order once ctx is done or a part fails by itself,
// whichever is first. All the stopping together gets the time drain; every part is stopped, whatever became of the ones
// before it, and one that is not over by then is left to itself. A Start that fails stops those that were started.
//
// It returns nil if ctx ended, be it during the start, and every part stopped; otherwise all that went wrong.
func Run(ctx context.Context, log *slog.Logger, drain time.Duration, parts ...Part) error {
	started, err := start(ctx, parts)
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled):
		log.Info("stopping: told to while starting", "at", err.Error())
		err = nil
	case err == nil:
		if err = wait(ctx, parts); err != nil {
			log.Error("stopping: a part of the process failed", "error", err)
		} else {
			log.Info("stopping: what is in flight is being finished", "within", drain.String())
		}
	}

	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	all := []error{err}
	for i := started - 1; i >= 0; i-- {
		if err := stop(stopping, parts[i]); err != nil {
			all = append(all, fmt.Errorf("stopping %s: %w", parts[i].Name, err))
		}
	}
	return errors.Join(all...)
}

// start starts the parts in order, and tells how many have to be stopped.
func start(ctx context.Context, parts []Part) (started int, err error) {
	for i, part := range parts {
		if err := ctx.Err(); err != nil {
			return i, fmt.Errorf("before %s was started: %w", part.Name, err)
		}
		if part.Start == nil {
			continue
		}
		if err := part.Start(ctx); err != nil {
			return i + 1, fmt.Errorf("starting %s: %w", part.Name, err)
		}
	}
	return len(parts), nil
}

// wait returns nil when ctx is done, and an error when a part fails before that.
func wait(ctx context.Context, parts []Part) error {
	ctx, cancel := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer cancel()
	failed := make(chan error, len(parts))
	for _, part := range parts {
		if part.Failed == nil {
			continue
		}
		watchers.Go(func() {
			select {
			case err := <-part.Failed:
				failed <- err
			case <-ctx.Done():
			}
		})
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// stop stops one part, and gives it up when ctx ends: a server that went silent must not keep this process from ending.
func stop(ctx context.Context, part Part) error {
	if part.Stop == nil {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- part.Stop(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	// Both may have come at once, most likely one because of the other.
	select {
	case err := <-done:
		return err
	default:
		return fmt.Errorf("not over in time: %w", ctx.Err())
	}
}
