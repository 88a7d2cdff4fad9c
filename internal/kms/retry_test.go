package kms

import (
	"context"
	"errors"
	"testing"
	"time"
)

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
		r.breaker.done(0, dead)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel() // a wait would end with this one's error
	if _, err := r.GetAttemptToken(gone); !errors.Is(err, errOpen) {
		t.Errorf("it waits for its turn: %v", err)
	}
}
