package kms

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func newBreaker() *breaker {
	return &breaker{clock: time.Now, jitter: func(d time.Duration) time.Duration { return d / 2 }}
}

func TestBreaker_OpensAfterFailuresInARowAndRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker()
		attempt := func(o outcome) {
			t.Helper()
			if err := b.allow(); err != nil {
				t.Fatalf("an attempt was refused: %v", err)
			}
			b.done(o)
		}
		refused := func() {
			t.Helper()
			if err := b.allow(); !errors.Is(err, errOpen) {
				t.Fatalf("an attempt was let through: %v", err)
			}
		}
		for range 20 { // an answer in between, whatever it says
			for range breakAfter - 1 {
				attempt(dead)
			}
			attempt(nothing)
			attempt(alive)
		}
		for range breakAfter {
			attempt(dead)
		}
		refused()
		if b.state() != "open" {
			t.Errorf("it is %s", b.state())
		}
		for range 3 { // one probe at a time, a pause after each
			time.Sleep(breakPause)
			if b.state() != "half_open" {
				t.Errorf("it is %s", b.state())
			}
			if err := b.allow(); err != nil {
				t.Fatal(err)
			}
			refused()
			b.done(dead)
			refused()
		}
		time.Sleep(breakPause)
		attempt(nothing) // a probe that its caller ended tells nothing: the next one may try at once
		if err := b.allow(); err != nil {
			t.Fatal(err)
		}
		refused()
		time.Sleep(probePatience) // one that never comes back doesn't keep the others out for good
		attempt(alive)
		if b.state() != "closed" {
			t.Errorf("it is %s", b.state())
		}
		attempt(dead)
		attempt(alive)
	})
}

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

func TestRetryer_NeverPausesBeyondTheDeadline(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	throttled := errPaced
	var longest time.Duration
	for left := range 40 {
		r := &retryer{Standard: standardRetryer(5), clock: func() time.Time { return now }, deadline: now.Add(time.Duration(left) * 50 * time.Millisecond)}
		if r.MaxAttempts() != 6 {
			t.Fatal("five retries are not six attempts")
		}
		for attempt := range 80 {
			delay, err := r.RetryDelay(attempt+1, throttled)
			if err == nil && !now.Add(delay).Before(r.deadline) || delay > retryMost {
				t.Fatalf("attempt %d with %d00 ms left waits %s", attempt, left, delay)
			}
			if err != nil && classify(err) != ClassThrottled {
				t.Fatalf("what the last attempt found is lost: %v", err)
			}
			if attempt == 0 && delay > retryBase {
				t.Fatalf("the first pause is %s", delay)
			}
			longest = max(longest, delay)
		}
	}
	if longest < time.Second {
		t.Errorf("the longest of 3000 pauses is %s: they don't grow", longest)
	}
}

func TestRetryer_WhatACallersDeadlineCutsTellsNothingOfKMS(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Unix(1_000_000, 0) }
	for name, test := range map[string]struct {
		left bool
		want string
	}{"its own deadline": {true, "closed"}, "no answer in time": {false, "open"}} {
		r := &retryer{
			Standard: standardRetryer(0), clock: now, pace: &pace{clock: now}, attempt: func(Class) {},
			breaker: &breaker{clock: now, jitter: func(d time.Duration) time.Duration { return d }},
		}
		for range 2 * breakAfter {
			ctx, cancel := context.WithCancel(context.Background())
			release, err := r.GetAttemptToken(ctx)
			if test.left {
				cancel()
			}
			if err == nil {
				_ = release(context.DeadlineExceeded)
			}
			cancel()
		}
		if got := r.breaker.state(); got != test.want {
			t.Errorf("%s: the breaker is %s, want %s", name, got, test.want)
		}
	}
}

// Nobody waits for a turn that would come to nothing.
func TestRetryer_AnOpenBreakerFailsAtOnceAlsoWhileCallsArePaced(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Unix(1_000_000, 0) }
	r := &retryer{
		Standard: standardRetryer(0), clock: now, pace: &pace{clock: now}, attempt: func(Class) {},
		breaker: &breaker{clock: now, jitter: func(d time.Duration) time.Duration { return d }},
	}
	for range 3 {
		r.pace.done(true)
	}
	for range breakAfter {
		r.breaker.done(dead)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel() // a wait would end with this one's error
	if _, err := r.GetAttemptToken(gone); !errors.Is(err, errOpen) {
		t.Errorf("it waits for its turn: %v", err)
	}
}
