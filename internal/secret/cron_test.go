package secret

import (
	"testing"
	"time"

	"github.com/google/uuid"
)

func utc(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func parsed(t *testing.T, expression, zone string) occurrences {
	t.Helper()
	o, problem := Schedule{Cron: expression, TimeZone: zone}.parse()
	if problem != "" {
		t.Fatal(problem)
	}
	return o
}

func TestCron_Meaning(t *testing.T) {
	t.Parallel()
	// 2026-03-01 is a Sunday.
	for expression, want := range map[string][]string{
		"30 3 * * *":       {"2026-03-01T03:30:00Z", "2026-03-02T03:30:00Z"},
		"*/25 5 * * *":     {"2026-03-01T05:00:00Z", "2026-03-01T05:25:00Z", "2026-03-01T05:50:00Z", "2026-03-02T05:00:00Z"},
		"0 8-18/5 * * *":   {"2026-03-01T08:00:00Z", "2026-03-01T13:00:00Z", "2026-03-01T18:00:00Z", "2026-03-02T08:00:00Z"},
		"0 22-1 * * *":     {"2026-03-01T01:00:00Z", "2026-03-01T22:00:00Z", "2026-03-01T23:00:00Z", "2026-03-02T00:00:00Z", "2026-03-02T01:00:00Z"},
		"0 20-2/3 2 * *":   {"2026-03-02T02:00:00Z", "2026-03-02T20:00:00Z", "2026-03-02T23:00:00Z", "2026-04-02T02:00:00Z"},
		"0 0 30-1 * *":     {"2026-03-30T00:00:00Z", "2026-03-31T00:00:00Z", "2026-04-01T00:00:00Z", "2026-04-30T00:00:00Z", "2026-05-01T00:00:00Z"},
		"0 0 L * *":        {"2026-03-31T00:00:00Z", "2026-04-30T00:00:00Z", "2026-05-31T00:00:00Z"},
		"0 0 15,L 2 *":     {"2027-02-15T00:00:00Z", "2027-02-28T00:00:00Z", "2028-02-15T00:00:00Z", "2028-02-29T00:00:00Z"},
		"0 0 1 NOV-jan *":  {"2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-11-01T00:00:00Z"},
		"0 0 * * THU":      {"2026-03-05T00:00:00Z", "2026-03-12T00:00:00Z"},
		"0 12 * * 0":       {"2026-03-01T12:00:00Z", "2026-03-08T12:00:00Z"},
		"0 12 * * 7":       {"2026-03-01T12:00:00Z", "2026-03-08T12:00:00Z"},
		"0 0 * * 6-7":      {"2026-03-07T00:00:00Z", "2026-03-08T00:00:00Z", "2026-03-14T00:00:00Z"},
		"0 0 * * FRI-SUN":  {"2026-03-06T00:00:00Z", "2026-03-07T00:00:00Z", "2026-03-08T00:00:00Z", "2026-03-13T00:00:00Z"},
		"0 0 * * sat-mon":  {"2026-03-02T00:00:00Z", "2026-03-07T00:00:00Z", "2026-03-08T00:00:00Z", "2026-03-09T00:00:00Z", "2026-03-14T00:00:00Z"},
		"0 0 * * */3":      {"2026-03-04T00:00:00Z", "2026-03-07T00:00:00Z", "2026-03-08T00:00:00Z", "2026-03-11T00:00:00Z"},
		"0 12 * * SUN#1":   {"2026-03-01T12:00:00Z", "2026-04-05T12:00:00Z", "2026-05-03T12:00:00Z"},
		"0 0 * * 7#L":      {"2026-03-29T00:00:00Z", "2026-04-26T00:00:00Z", "2026-05-31T00:00:00Z"},
		"0 0 * * FRI#5":    {"2026-05-29T00:00:00Z", "2026-07-31T00:00:00Z"},
		"0 0 * * 1,THU#2":  {"2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z", "2026-03-12T00:00:00Z", "2026-03-16T00:00:00Z"},
		"0 0 29 FEB *":     {"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"},
		"0 0 * 2 MON#5":    {"2044-02-29T00:00:00Z", "2072-02-29T00:00:00Z", "2112-02-29T00:00:00Z", "2140-02-29T00:00:00Z"},
		"@hourly":          {"2026-03-01T01:00:00Z", "2026-03-01T02:00:00Z"},
		"@daily":           {"2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"},
		"@midnight":        {"2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"},
		"@weekly":          {"2026-03-08T00:00:00Z", "2026-03-15T00:00:00Z"},
		"@monthly":         {"2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z"},
		"@yearly":          {"2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"},
		"@annually":        {"2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"},
		"05,7 01 02 03 * ": {"2026-03-02T01:05:00Z", "2026-03-02T01:07:00Z", "2027-03-02T01:05:00Z"},
	} {
		t.Run(expression, func(t *testing.T) {
			t.Parallel()
			o, at := parsed(t, expression, ""), utc(t, "2026-03-01T00:00:00Z")
			for _, next := range want {
				if at = o.after(at); !at.Equal(utc(t, next)) {
					t.Fatalf("%s, want %s", at, next)
				}
				if back := o.upTo(at); !back.Equal(at) {
					t.Errorf("the last one up to %s is at %s", at, back)
				}
			}
		})
	}
}

// The clocks of Berlin go forward on 28 March 2027 from 2:00 to 3:00, at 1:00 UTC, and are put back on 31 October from 3:00 to 2:00,
// at 1:00 UTC.
func TestCron_ChangesOfTheClock(t *testing.T) {
	t.Parallel()
	for claim, c := range map[string]struct {
		expression, zone, after string
		want                    []string
	}{
		"what falls into the gap happens at its end": {
			"30 2 * * *", "Europe/Berlin", "2027-03-27T00:00:00Z",
			[]string{"2027-03-27T01:30:00Z", "2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"},
		},
		"what falls into the gap happens together with what happens then anyway": {
			"*/30 1-3 * * *", "Europe/Berlin", "2027-03-28T00:00:00Z",
			[]string{"2027-03-28T00:30:00Z", "2027-03-28T01:00:00Z", "2027-03-28T01:30:00Z", "2027-03-28T23:00:00Z"},
		},
		"what comes twice happens the first time": {
			"30 2 * * *", "Europe/Berlin", "2027-10-30T00:00:00Z",
			[]string{"2027-10-30T00:30:00Z", "2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"},
		},
		"the end of the repeated hour comes once": {
			"0 3 * * *", "Europe/Berlin", "2027-10-31T00:00:00Z",
			[]string{"2027-10-31T02:00:00Z", "2027-11-01T02:00:00Z"},
		},
		"in the second hour nothing is left to happen": {
			"*/15 * * * *", "Europe/Berlin", "2027-10-31T00:40:00Z",
			[]string{"2027-10-31T00:45:00Z", "2027-10-31T02:00:00Z", "2027-10-31T02:15:00Z"},
		},
		"the same, from within it": {
			"*/15 * * * *", "Europe/Berlin", "2027-10-31T01:10:00Z", []string{"2027-10-31T02:00:00Z"},
		},
		"midnight that is skipped": { // on 2024-04-26 in Cairo, at 22:00 UTC
			"@daily", "Africa/Cairo", "2024-04-24T12:00:00Z",
			[]string{"2024-04-24T22:00:00Z", "2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z"},
		},
		"a day that is skipped": { // 2011-12-30 in Samoa, at 10:00 UTC
			"0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z",
			[]string{"2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"},
		},
		"a change by half an hour": { // on Lord Howe, at 15:30 UTC
			"15 2 * * *", "Australia/Lord_Howe", "2026-10-02T16:00:00Z",
			[]string{"2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			o, at := parsed(t, c.expression, c.zone), utc(t, c.after)
			for _, next := range c.want {
				if at = o.after(at); !at.Equal(utc(t, next)) {
					t.Fatalf("%s, want %s", at, next)
				}
			}
		})
	}
}

// Minute by minute, through both changes of a year: a time of cron happens in the minute in which the clock first shows it, or more.
func TestCron_EveryTimeHappensExactlyOnce(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia"} {
		for _, expression := range []string{"* * * * *", "*/15 * * * *", "30 * * * *", "30 2 * * *", "0 3 * * *", "0 0 L * *", "59 23 * * SUN#L", "0 0 * 3,10 *"} {
			t.Run(zone+" "+expression, func(t *testing.T) {
				t.Parallel()
				o := parsed(t, expression, zone)
				for _, from := range []string{"2027-03-26T00:00:00Z", "2027-10-29T00:00:00Z", "2027-04-02T00:00:00Z"} {
					begin := utc(t, from)
					shown := wallClock(begin, o.zone)
					last := o.upTo(begin)
					for at := begin.Add(time.Minute); at.Before(begin.AddDate(0, 0, 4)); at = at.Add(time.Minute) {
						now, due := wallClock(at, o.zone), false
						for ; shown.Before(now); due = due || matches(o, shown) {
							shown = shown.Add(time.Minute)
						}
						if due {
							if next := o.after(last); !next.Equal(at) {
								t.Fatalf("after %s it happens at %s, want %s", last, next, at)
							}
							last = at
						}
						if at.Minute()%7 > 0 {
							continue
						}
						if got := o.upTo(at.Add(time.Second)); !got.Equal(last) {
							t.Fatalf("the last one up to %s is at %s, want %s", at, got, last)
						}
					}
				}
			})
		}
	}
}

// matches is for expressions whose weekday is '*' or SUN#L and whose day of the month is '*' or L.
func matches(o occurrences, wall time.Time) bool {
	has := func(bits uint64, n int) bool { return bits>>n&1 == 1 }
	tomorrow := wall.AddDate(0, 0, 1)
	day := has(o.spec.Dom, wall.Day()) || len(o.spec.DomConstraints) > 0 && tomorrow.Day() == 1
	weekday := has(o.spec.Dow, int(wall.Weekday())) ||
		len(o.spec.DowConstraints) > 0 && wall.Weekday() == time.Sunday && wall.AddDate(0, 0, 7).Month() != wall.Month()
	return has(o.spec.Minute, wall.Minute()) && has(o.spec.Hour, wall.Hour()) && has(o.spec.Month, int(wall.Month())) && day && weekday
}

func FuzzSchedule(f *testing.F) {
	for _, s := range []string{
		"* * * * *", "30 2 * * *", "*/15 1-3 * * *", "0 0 L * *", "0 0 * * SUN#L", "0 0 29 2 *", "0 0 30 2 *", "0 0 1 * MON", "@daily", "@every 1s",
		"0 22-2 * * *", "0 0 * 2 MON#5", "TZ=UTC * * * * *", "H * * * *", "0 0 * * THU", "", "a b c d e", "0 0 ? * 1", "1,,2 * * * *",
	} {
		f.Add(s, "Europe/Berlin", int64(1824080000123456789), int64(3600), int64(0), []byte("0123456789abcdef"))
		f.Add(s, "", int64(0), int64(0), int64(0), []byte{})
	}
	f.Add("", "", int64(-1), int64(0), int64(3600), []byte{255})
	f.Fuzz(func(t *testing.T, expression, zone string, afterNanos, window, interval int64, seed []byte) {
		s := Schedule{Interval: Seconds(interval), Cron: expression, TimeZone: zone, Window: Seconds(window)}
		after, id := time.Unix(0, afterNanos), uuid.NewSHA1(uuid.Nil, seed)
		due := s.Next(after, id)
		if s.Validate() != nil {
			if !due.IsZero() {
				t.Fatalf("what is refused is due at %s", due)
			}
			return
		}
		if !due.After(after) || due != due.UTC().Truncate(time.Microsecond) {
			t.Fatalf("after %s it is due at %s", after, due)
		}
		if again := s.Next(due, id); !again.After(due) {
			t.Fatalf("after %s it is due at %s", due, again)
		}
		most := 45 * 366 * 24 * time.Hour // the rarest date, and a tenth
		if s.Cron == "" {
			most = s.Interval + s.Interval/10
		}
		if due.Sub(latest(after, time.Unix(0, 0))) > most {
			t.Fatalf("after %s it is due only at %s", after, due)
		}
		if s.Cron == "" {
			return
		}
		o, _ := s.parse()
		at := o.upTo(due)
		if at.After(due) || due.Sub(at) > o.after(at).Sub(at)/10 || window > 0 && due.Sub(at) > s.Window/2 {
			t.Fatalf("the time of cron %s is due at %s", at, due)
		}
	})
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
