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
