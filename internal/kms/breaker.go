package kms

import (
	"errors"
	"sync"
	"time"
)

const (
	// breakAfter is how many attempts in a row must find KMS unavailable before none is made any more.
	breakAfter = 5
	// breakPause is about how long none is made then, before one is let through to see.
	breakPause = time.Second
	// probePatience is how long that one may take before another is let through.
	probePatience = 2 * attemptTimeout
)

// errOpen is why a call fails without an attempt.
var errOpen = errors.New("KMS was unavailable at the last attempts and isn't asked for a moment")

// outcome is what an attempt tells of KMS.
type outcome int

const (
	alive   outcome = iota // it answered, whatever it said
	dead                   // it didn't, or with a failure of its own
	nothing                // the attempt wasn't made, or ended by its caller
)

// breaker keeps calls from waiting for a KMS that is down. After some attempts in a row that found it unavailable it opens, and
// every call fails at once; after a pause one attempt at a time is let through, until one is answered. What an attempt finds counts
// only for the state in which it was begun: one that took so long that the breaker has turned since tells of a time that is over.
type breaker struct {
	clock  func() time.Time
	jitter func(time.Duration) time.Duration // a random part of a time

	mu         sync.Mutex
	generation uint64 // raised by opening, by closing, and by each attempt that is let through while open
	failures   int
	open       bool
	until      time.Time // the next attempt, while open
	probing    bool
}

// blocks says whether no attempt may be made now, and promises nothing.
func (b *breaker) blocks() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open && b.clock().Before(b.until) {
		return errOpen
	}
	return nil
}

// allow says whether an attempt may be made. One that may must be ended with done, which takes the generation that it was begun in.
func (b *breaker) allow() (generation uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return b.generation, nil
	}
	now := b.clock()
	if now.Before(b.until) {
		return 0, errOpen
	}
	// Should the probe never come back, another one follows it.
	b.probing, b.until = true, now.Add(probePatience)
	b.generation++
	return b.generation, nil
}

// done notes what an attempt found.
func (b *breaker) done(generation uint64, o outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if generation != b.generation {
		return
	}
	switch {
	case o == alive:
		if b.open {
			b.generation++
		}
		b.failures, b.open, b.probing = 0, false, false
	case o == dead:
		b.failures++
		if b.failures >= breakAfter || b.open {
			b.generation++
			b.open, b.probing = true, false
			b.until = b.clock().Add(breakPause*3/4 + b.jitter(breakPause/2))
		}
	case b.open && b.probing:
		b.probing, b.until = false, b.clock() // it told nothing: the next one may try
	}
}

// state is "closed", "open" or "half_open".
func (b *breaker) state() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.open:
		return "closed"
	case b.probing || !b.clock().Before(b.until):
		return "half_open"
	default:
		return "open"
	}
}
