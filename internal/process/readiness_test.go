package process

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadinessRestsOnServingAndOnTheCheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var err error
		var out bytes.Buffer
		r := NewReadiness(func(context.Context) error { return err }, time.Now, slog.New(slog.NewTextHandler(&out, nil)))
		if !errors.Is(r.Ready(t.Context()), ErrNotServing) {
			t.Error("ready before it serves")
		}
		r.Serve()
		if r.Ready(t.Context()) != nil {
			t.Error("not ready")
		}
		err = errors.New("broken")
		time.Sleep(readinessAge)
		if !errors.Is(r.Ready(t.Context()), err) || strings.Count(out.String(), "not ready") != 1 {
			t.Errorf("ready, or not logged: %s", out.String())
		}
		time.Sleep(unreadyAge)
		if r.Ready(t.Context()) == nil || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("the same again is logged again: %s", out.String())
		}
		err = nil
		time.Sleep(unreadyAge)
		if r.Ready(t.Context()) != nil || strings.Count(out.String(), "ready again") != 1 {
			t.Errorf("not ready, or not logged: %s", out.String())
		}
		r.Withdraw()
		if !errors.Is(r.Ready(t.Context()), ErrNotServing) {
			t.Error("ready after it was withdrawn")
		}
	})
}

func TestReadinessChecksOnceASecondHoweverManyAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var checks atomic.Int32
		r := NewReadiness(func(ctx context.Context) error {
			checks.Add(1)
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("the check has no deadline")
			}
			time.Sleep(100 * time.Millisecond)
			return ctx.Err()
		}, time.Now, quiet)
		r.Serve()
		hurried, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := r.Ready(hurried); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the asker's own deadline: %v", err)
		}
		for range 50 {
			go func() {
				if err := r.Ready(t.Context()); err != nil {
					t.Error(err)
				}
			}()
		}
		time.Sleep(readinessAge)
		if n := checks.Load(); n != 1 {
			t.Errorf("%d checks", n)
		}
		time.Sleep(readinessAge)
		if err := r.Ready(t.Context()); err != nil || checks.Load() != 2 {
			t.Errorf("%v after %d checks", err, checks.Load())
		}
	})
}
