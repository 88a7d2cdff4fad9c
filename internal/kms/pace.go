package kms

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// paceWait bounds how long a call waits for its turn, and with it how many calls wait.
	paceWait = 5 * time.Second
	// paceCut is the part of its rate that a pace keeps when KMS throttles, and paceCutEvery how often it is cut at most:
	// calls that were sent together are throttled together.
	paceCut      = 0.7
	paceCutEvery = 200 * time.Millisecond
	// paceLeast is the least rate, in calls a second: something must go on for it to be seen that KMS gives way.
	paceLeast = 1.0
	// paceOver is how long without throttling ends the pacing.
	paceOver = 30 * time.Second
)

// errPaced is why a call fails without an attempt.
var errPaced = errors.New("KMS throttles, and too many calls wait for their turn")

// pace slows calls down to what KMS takes once it has throttled one: the rate is cut at each throttling and grows slowly while there
// is none. Calls take turns in the order in which they come. While KMS doesn't throttle it holds up nothing.
type pace struct {
	clock func() time.Time

	mu        sync.Mutex
	on        bool
	rate      float64   // calls a second, while on
	next      time.Time // the next free turn
	cut       time.Time // when the rate was last cut
	throttled time.Time // when KMS last throttled

	// What is measured while off, to know where to begin.
	since    time.Time
	count    float64
	measured float64 // calls a second, lately
}

// wait returns when it is the call's turn. It fails at once if that would be too late for its context, or too far off.
func (p *pace) wait(ctx context.Context) error {
	turn, err := p.turn(ctx)
	if err != nil || turn <= 0 {
		return err
	}
	timer := time.NewTimer(turn)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for a turn: %w", ctx.Err())
	}
}

// turn takes the next turn and tells how long it is until then.
func (p *pace) turn(ctx context.Context) (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	p.measure(now)
	if p.on && now.Sub(p.throttled) > paceOver {
		p.on = false
	}
	if !p.on {
		return 0, nil
	}
	at := p.next
	if at.Before(now) {
		at = now
	}
	deadline, bounded := ctx.Deadline()
	if at.Sub(now) > paceWait || (bounded && !at.Before(deadline)) {
		return 0, errPaced
	}
	p.next = at.Add(p.interval())
	return at.Sub(now), nil
}

// done notes whether KMS throttled an attempt, or took it.
func (p *pace) done(throttled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	switch {
	case !throttled:
		if p.on { // a tenth, and one, more in each second
			p.rate += 0.1 + 1/p.rate
		}
	case !p.on:
		p.measure(now)
		p.on, p.rate = true, max(paceLeast, p.measured*paceCut)
		p.throttled, p.cut = now, now
		p.next = now.Add(p.interval())
	default:
		p.throttled = now
		if now.Sub(p.cut) >= paceCutEvery {
			p.rate, p.cut = max(paceLeast, p.rate*paceCut), now
		}
	}
}

// isOn tells whether calls are slowed down.
func (p *pace) isOn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.on && p.clock().Sub(p.throttled) <= paceOver
}

func (p *pace) interval() time.Duration { return time.Duration(float64(time.Second) / p.rate) }

// measure counts a call, in windows of half a second.
func (p *pace) measure(now time.Time) {
	p.count++
	const window = time.Second / 2
	elapsed := now.Sub(p.since)
	switch {
	case elapsed > 10*window: // what was measured is long ago
		p.since, p.count, p.measured = now, 1, 0
	case elapsed >= window:
		p.measured = (p.measured + p.count/elapsed.Seconds()) / 2
		p.since, p.count = now, 0
	case p.measured < p.count: // a burst: at least that many came within less than a second
		p.measured = p.count
	}
}
