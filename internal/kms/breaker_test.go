package kms

import (
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
			generation, err := b.allow()
			if err != nil {
				t.Fatalf("an attempt was refused: %v", err)
			}
			b.done(generation, o)
		}
		refused := func() {
			t.Helper()
			if _, err := b.allow(); !errors.Is(err, errOpen) {
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
			probe, err := b.allow()
			if err != nil {
				t.Fatal(err)
			}
			refused()
			b.done(probe, dead)
			refused()
		}
		time.Sleep(breakPause)
		attempt(nothing) // a probe that its caller ended tells nothing: the next one may try at once
		if _, err := b.allow(); err != nil {
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

func TestBreaker_AnAttemptCountsOnlyForTheStateThatItWasBegunIn(t *testing.T) {
	t.Parallel()
	begin := func(t *testing.T, b *breaker) uint64 {
		t.Helper()
		generation, err := b.allow()
		if err != nil {
			t.Fatalf("an attempt was refused: %v", err)
		}
		return generation
	}
	is := func(t *testing.T, b *breaker, want string) {
		t.Helper()
		if got := b.state(); got != want {
			t.Errorf("it is %s, want %s", got, want)
		}
	}
	// broken gives a breaker that has opened, and attempts that were begun before.
	broken := func(t *testing.T) (b *breaker, slow []uint64) {
		t.Helper()
		b = newBreaker()
		for range 2 * breakAfter {
			slow = append(slow, begin(t, b))
		}
		for range breakAfter {
			b.done(begin(t, b), dead)
		}
		is(t, b, "open")
		return b, slow
	}
	for name, late := range map[string]func(*testing.T, *breaker, []uint64){
		"failures don't open it once it has closed": func(t *testing.T, b *breaker, slow []uint64) {
			time.Sleep(breakPause)
			b.done(begin(t, b), alive)
			is(t, b, "closed")
			for _, generation := range slow {
				b.done(generation, dead)
			}
			is(t, b, "closed")
			for range breakAfter - 1 { // nor do they count beside those of now
				b.done(begin(t, b), dead)
			}
			is(t, b, "closed")
			b.done(begin(t, b), dead)
			is(t, b, "open")
		},
		"failures don't prolong the pause": func(t *testing.T, b *breaker, slow []uint64) {
			time.Sleep(breakPause / 2)
			b.done(slow[0], dead)
			time.Sleep(breakPause / 2)
			is(t, b, "half_open")
		},
		"an answer doesn't close it": func(t *testing.T, b *breaker, slow []uint64) {
			b.done(slow[0], alive)
			is(t, b, "open")
		},
		"they don't end the attempt that sees how KMS is": func(t *testing.T, b *breaker, slow []uint64) {
			time.Sleep(breakPause)
			probe := begin(t, b)
			for _, o := range []outcome{dead, nothing, alive} {
				b.done(slow[0], o)
				if _, err := b.allow(); !errors.Is(err, errOpen) {
					t.Errorf("a second attempt beside it: %v", err)
				}
			}
			b.done(probe, alive)
			is(t, b, "closed")
		},
		"nor does one whose place was given to another": func(t *testing.T, b *breaker, _ []uint64) {
			time.Sleep(breakPause)
			lost := begin(t, b)
			time.Sleep(probePatience)
			probe := begin(t, b)
			b.done(lost, dead)
			time.Sleep(breakPause)
			if _, err := b.allow(); !errors.Is(err, errOpen) {
				t.Errorf("a second attempt beside it: %v", err)
			}
			b.done(probe, alive)
			is(t, b, "closed")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, slow := broken(t)
				late(t, b, slow)
			})
		})
	}
}
