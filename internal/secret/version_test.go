package secret

import (
	"math"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

func TestI9_GraceRule(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) *time.Time { e := noon.Add(d); return &e }
	for claim, c := range map[string]struct {
		state     State
		expiresAt *time.Time
		want      bool
	}{
		"current is valid":                                   {Current, nil, true},
		"current is valid whatever expires_at says":          {Current, at(-time.Hour), true},
		"superseded is valid before expires_at":              {Superseded, at(time.Hour), true},
		"superseded is valid one microsecond before":         {Superseded, at(time.Microsecond), true},
		"superseded is not valid at expires_at":              {Superseded, at(0), false},
		"superseded is not valid one microsecond after":      {Superseded, at(-time.Microsecond), false},
		"superseded is not valid long after":                 {Superseded, at(-1000 * time.Hour), false},
		"superseded without expires_at is not valid":         {Superseded, nil, false},
		"pending is not valid":                               {Pending, nil, false},
		"pending is not valid even before an expires_at":     {Pending, at(time.Hour), false},
		"abandoned is not valid":                             {Abandoned, nil, false},
		"abandoned is not valid even before an expires_at":   {Abandoned, at(time.Hour), false},
		"an unknown state is not valid":                      {"live", at(time.Hour), false},
		"no state is not valid":                              {"", nil, false},
		"a state in another case is not valid":               {"CURRENT", nil, false},
		"superseded compares instants and not wall clocks":   {Superseded, in(at(-time.Hour), time.FixedZone("east", 7200)), false},
		"superseded in another zone is valid until the same": {Superseded, in(at(time.Hour), time.FixedZone("west", -7200)), true},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			if got := Valid(c.state, c.expiresAt, noon); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func in(at *time.Time, zone *time.Location) *time.Time { local := at.In(zone); return &local }

func TestI9_SupersededUntil(t *testing.T) {
	t.Parallel()

	t.Run("a version is valid through its grace and not at its end", func(t *testing.T) {
		t.Parallel()
		for _, grace := range []time.Duration{time.Second, time.Hour, MaxGracePeriod} {
			until := SupersededUntil(noon, grace)
			if !Valid(Superseded, &until, noon) || !Valid(Superseded, &until, noon.Add(grace-time.Microsecond)) {
				t.Errorf("grace %v: ends early, at %v", grace, until)
			}
			if Valid(Superseded, &until, noon.Add(grace)) {
				t.Errorf("grace %v: still valid at its end", grace)
			}
		}
	})

	t.Run("without a grace a version ends at once", func(t *testing.T) {
		t.Parallel()
		for _, grace := range []time.Duration{0, -time.Nanosecond, -time.Hour, math.MinInt64} {
			until := SupersededUntil(noon, grace)
			if Valid(Superseded, &until, noon) || !until.Equal(noon) {
				t.Errorf("grace %v: until %v", grace, until)
			}
		}
	})

	t.Run("the result is what a database of microseconds gives back, and never later than asked", func(t *testing.T) {
		t.Parallel()
		odd := noon.In(time.FixedZone("east", 7200)).Add(999 * time.Nanosecond)
		until := SupersededUntil(odd, time.Second)
		if until.Location() != time.UTC || until.Nanosecond()%1000 != 0 {
			t.Errorf("until is %v", until)
		}
		if !until.Equal(noon.Add(time.Second)) || until.After(odd.Add(time.Second)) {
			t.Errorf("until is %v", until)
		}
	})
}

func TestNextRotation(t *testing.T) {
	t.Parallel()
	if got := NextRotation(noon.In(time.FixedZone("east", 7200)).Add(999), time.Hour); got != noon.Add(time.Hour) {
		t.Errorf("got %v", got)
	}
	for _, interval := range []time.Duration{0, -time.Second} {
		if got := NextRotation(noon, interval); !got.IsZero() {
			t.Errorf("interval %v: due at %v", interval, got)
		}
	}
}

func TestSeconds(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]time.Duration{
		0: 0, 1: time.Second, -1: -time.Second, 315360000: MaxRotationInterval,
		9223372036: 9223372036 * time.Second, 9223372037: math.MaxInt64, math.MaxInt64: math.MaxInt64,
		-9223372036: -9223372036 * time.Second, -9223372037: math.MinInt64, math.MinInt64: math.MinInt64,
		// These two would wrap around to something harmless.
		18446744074: math.MaxInt64, -18446744074: math.MinInt64,
	} {
		if got := Seconds(n); got != want {
			t.Errorf("Seconds(%d) = %d, want %d", n, got, want)
		}
	}
	for _, n := range []int64{math.MaxInt64, math.MinInt64, 18446744074} {
		if err := (Settings{Kind: Manual, GracePeriod: Seconds(n)}).Validate(); err == nil {
			t.Errorf("a grace of %d seconds is accepted", n)
		}
	}
}
