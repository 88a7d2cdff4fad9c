package process

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestSignals(t *testing.T) {
	t.Parallel()
	for claim, c := range map[string]struct {
		after []time.Duration // when signals come, since the first one
		exits bool
	}{
		"one ends the context alone":                      {nil, false},
		"one that comes twice at once is one wish":        {[]time.Duration{0}, false},
		"a storm within a second is one wish":             {[]time.Duration{1, time.Millisecond, 500 * time.Millisecond, time.Second}, false},
		"another one later ends the process":              {[]time.Duration{time.Second + 1}, true},
		"another one later ends it after a storm as well": {[]time.Duration{0, 900 * time.Millisecond, 1100 * time.Millisecond}, true},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			start := time.Unix(1, 0)
			times := make(chan time.Time, 1)
			received := make(chan os.Signal) // unbuffered: what was sent has been taken
			exited := make(chan int, 1)
			ctx, stop := watch(t.Context(), received, func(status int) { exited <- status }, func() time.Time { return <-times })
			times <- start
			received <- syscall.SIGTERM
			<-ctx.Done()
			for _, after := range c.after {
				received <- syscall.SIGINT
				times <- start.Add(after)
			}
			if c.exits {
				if status := <-exited; status != 1 {
					t.Errorf("exited with %d", status)
				}
			}
			stop()
			if len(exited) > 0 {
				t.Error("the process ended")
			}
		})
	}
}

func TestWatchingSignalsEnds(t *testing.T) {
	t.Parallel()
	ctx, stop := watch(t.Context(), make(chan os.Signal), nil, time.Now)
	stop()
	stop()
	if ctx.Err() == nil {
		t.Error("the context goes on")
	}
	ctx, stop = Signals(context.Background(), nil)
	stop()
	stop()
	if ctx.Err() == nil {
		t.Error("the context goes on")
	}
}
