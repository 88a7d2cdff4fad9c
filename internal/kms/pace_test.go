package kms

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPace_SlowsDownAndSpeedsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pace{clock: time.Now}
		ctx := t.Context()
		for range 1000 { // 100 calls a second, and nothing holds them up
			before := time.Now()
			if err := p.wait(ctx); err != nil || time.Since(before) != 0 {
				t.Fatal("a call was held up though KMS takes them all")
			}
			p.done(false)
			time.Sleep(10 * time.Millisecond)
		}
		p.done(true)
		p.done(true) // sent together with the first
		took := func(calls int) time.Duration {
			t.Helper()
			before := time.Now()
			for range calls {
				if err := p.wait(ctx); err != nil {
					t.Fatal(err)
				}
				p.done(false)
			}
			return time.Since(before)
		}
		if d := took(35); d < 300*time.Millisecond || d > 700*time.Millisecond {
			t.Errorf("35 calls took %s, want about half a second: the rate is 70%% of 100 a second", d)
		}
		if !p.isOn() {
			t.Error("it doesn't say that calls are slowed down")
		}
		slow := took(100)
		if fast := took(100); fast >= slow {
			t.Errorf("the rate doesn't grow: %s, then %s", slow, fast)
		}
		for range 50 { // throttled on and on
			time.Sleep(paceCutEvery)
			p.done(true)
		}
		if p.rate != paceLeast {
			t.Errorf("the rate is %v", p.rate)
		}
		time.Sleep(paceOver + time.Second)
		if d := took(100); d != 0 || p.isOn() {
			t.Errorf("long after the throttling 100 calls take %s", d)
		}
	})
}

func TestPace_WhoWouldWaitTooLongIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pace{clock: time.Now}
		p.done(true)
		p.rate = 10
		begun := time.Now()
		refused := 0
		for range 200 { // all at once, at ten a second: fifty turns are within five seconds
			if _, err := p.turn(t.Context()); err != nil {
				if !errors.Is(err, errPaced) {
					t.Fatal(err)
				}
				refused++
			}
		}
		if refused < 140 || refused > 165 || time.Since(begun) != 0 {
			t.Errorf("%d of 200 were refused, after %s", refused, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.wait(ctx); !errors.Is(err, errPaced) || time.Since(begun) != 0 {
			t.Errorf("a turn after the deadline was waited for: %v", err)
		}
		time.Sleep(4 * time.Second)
		leaving, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, leave)
		if err := p.wait(leaving); !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
	})
}
