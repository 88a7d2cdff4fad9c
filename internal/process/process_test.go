package process

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

// diary notes what happens, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, lines) {
		t.Errorf("got %q, want %q", d.lines, lines)
	}
}

func (d *diary) part(name string, startErr, stopErr error) Part {
	return Part{
		Name:  name,
		Start: func(context.Context) error { d.note("start " + name); return startErr },
		Stop:  func(context.Context) error { d.note("stop " + name); return stopErr },
	}
}

func TestPartsStopInTheOppositeOrder(t *testing.T) {
	t.Parallel()
	var d diary
	ctx, cancel := context.WithCancel(t.Context())
	last := Part{Name: "last", Start: func(context.Context) error { cancel(); return nil }}
	onlyStops := Part{Name: "stops", Stop: func(context.Context) error { d.note("stop stops"); return nil }}
	if err := Run(ctx, quiet, time.Hour, d.part("a", nil, nil), onlyStops, d.part("b", nil, nil), last); err != nil {
		t.Error(err)
	}
	d.want(t, "start a", "start b", "stop b", "stop stops", "stop a")
}

func TestFailedStartStopsWhatWasStarted(t *testing.T) {
	t.Parallel()
	var d diary
	broken := errors.New("broken")
	err := Run(t.Context(), quiet, time.Hour, d.part("a", nil, nil), d.part("b", broken, nil), d.part("c", nil, nil))
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "starting b") {
		t.Errorf("got %v", err)
	}
	d.want(t, "start a", "start b", "stop b", "stop a")
}

func TestFailedStopDoesNotKeepTheOthersFromStopping(t *testing.T) {
	t.Parallel()
	var d diary
	first, second := errors.New("first"), errors.New("second")
	failed := make(chan error, 1)
	failed <- errors.New("accept")
	fails := d.part("b", nil, second)
	fails.Failed = failed
	err := Run(t.Context(), quiet, time.Hour, d.part("a", nil, first), fails, d.part("c", nil, nil))
	if !errors.Is(err, first) || !errors.Is(err, second) || !strings.Contains(err.Error(), "accept") {
		t.Errorf("got %v", err)
	}
	d.want(t, "start a", "start b", "start c", "stop c", "stop b", "stop a")
}

func TestStopHasTimeThoughTheProcessWasToldToStop(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), valueKey{}, "value"))
	err := Run(ctx, quiet, time.Hour, Part{
		Name: "worker",
		Stop: func(stopping context.Context) error {
			if _, bounded := stopping.Deadline(); stopping.Err() != nil || !bounded || stopping.Value(valueKey{}) != "value" {
				t.Errorf("stopped with %v", stopping)
			}
			return nil
		},
	}, Part{Name: "told to stop", Start: func(context.Context) error { cancel(); return nil }})
	if err != nil {
		t.Error(err)
	}
}

type valueKey struct{}

func TestToldToStopWhileStarting(t *testing.T) {
	t.Parallel()
	var d diary
	ctx, cancel := context.WithCancel(t.Context())
	waits := Part{
		Name:  "waits",
		Start: func(ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() },
		Stop:  func(context.Context) error { d.note("stop waits"); return nil },
	}
	if err := Run(ctx, quiet, time.Hour, d.part("a", nil, nil), waits, d.part("c", nil, nil)); err != nil {
		t.Errorf("got %v: a process that does what it is told has not failed", err)
	}
	d.want(t, "start a", "stop waits", "stop a")
}

func TestStoppingTakesNoLongerThanSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begun := time.Now()
		var d diary
		release := make(chan struct{})
		obeys := Part{Name: "obeys", Stop: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		stuck := Part{Name: "stuck", Stop: func(context.Context) error { <-release; return nil }}
		err := Run(ctx, quiet, 20*time.Second, d.part("a", nil, nil), stuck)
		if err != nil || time.Since(begun) != 0 {
			t.Errorf("told to stop before it began: got %v after %v", err, time.Since(begun))
		}
		d.want(t)

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		err = Run(ctx, quiet, 20*time.Second, d.part("a", nil, nil), obeys, stuck)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "stuck") || time.Since(begun) != 21*time.Second {
			t.Errorf("got %v after %v", err, time.Since(begun))
		}
		close(release)
		synctest.Wait()
		d.want(t, "start a", "stop a")
	})
}
