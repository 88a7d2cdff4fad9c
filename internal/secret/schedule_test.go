package secret

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
)

var (
	early = uuid.MustParse("018fabcd-ef01-7023-8456-789abcdef012")
	late  = uuid.MustParse("018fabcd-ef01-7023-8456-789abcdef015")
)

func TestScheduleValidate(t *testing.T) {
	t.Parallel()
	for claim, s := range map[string]Schedule{
		"the shortest interval":        {Interval: time.Second},
		"the longest interval":         {Interval: MaxRotationInterval},
		"five fields":                  {Cron: "30 3 * * 1"},
		"spaces around and between":    {Cron: " 30  3 * * 1 "},
		"a zone":                       {Cron: "@daily", TimeZone: "Europe/Berlin"},
		"a zone of three parts":        {Cron: "@daily", TimeZone: "America/Argentina/Buenos_Aires"},
		"an offset":                    {Cron: "@daily", TimeZone: "Etc/GMT-2"},
		"UTC by its name":              {Cron: "@daily", TimeZone: "UTC"},
		"the shortest window":          {Cron: "@daily", Window: time.Minute},
		"the longest window":           {Cron: "@daily", Window: MaxWindow},
		"a window that is made up for": {Cron: "@daily", Window: time.Hour, Missed: MissedCatchUp},
		"a window that waits":          {Cron: "@daily", Window: time.Hour, Missed: MissedWait},
		"making up without a window":   {Cron: "@daily", Missed: MissedCatchUp},
	} {
		t.Run("accepts "+claim, func(t *testing.T) {
			t.Parallel()
			if err := s.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
	for claim, c := range map[string]struct {
		s    Schedule
		says string
	}{
		"nothing":                             {Schedule{}, "or cron"},
		"both":                                {Schedule{Interval: time.Hour, Cron: "@daily"}, "exclude each other"},
		"a negative interval":                 {Schedule{Interval: -time.Second}, "rotation_interval_secs must be"},
		"an interval of broken seconds":       {Schedule{Interval: time.Second + 1}, "rotation_interval_secs must be"},
		"an interval of 10 years and more":    {Schedule{Interval: MaxRotationInterval + time.Second}, "rotation_interval_secs must be"},
		"an interval with a zone":             {Schedule{Interval: time.Hour, TimeZone: "UTC"}, "time_zone goes with cron"},
		"an interval with a window":           {Schedule{Interval: time.Hour, Window: time.Hour}, "window_secs goes with cron"},
		"an interval with missed":             {Schedule{Interval: time.Hour, Missed: MissedCatchUp}, "missed goes with cron"},
		"a window alone":                      {Schedule{Window: time.Hour}, "or cron"},
		"a window under a minute":             {Schedule{Cron: "@daily", Window: time.Minute - time.Second}, "window_secs must be"},
		"a window of broken seconds":          {Schedule{Cron: "@daily", Window: time.Minute + 1}, "window_secs must be"},
		"a negative window":                   {Schedule{Cron: "@daily", Window: -time.Minute}, "window_secs must be"},
		"a window beyond 366 days":            {Schedule{Cron: "@daily", Window: MaxWindow + time.Second}, "window_secs must be"},
		"another missed":                      {Schedule{Cron: "@daily", Window: time.Hour, Missed: "skip"}, "missed must be"},
		"waiting without a window":            {Schedule{Cron: "@daily", Missed: MissedWait}, "only with window_secs"},
		"a zone that isn't":                   {Schedule{Cron: "@daily", TimeZone: "Europe/Bielefeld"}, "time_zone must be"},
		"the zone of the machine":             {Schedule{Cron: "@daily", TimeZone: "Local"}, "time_zone must be"},
		"the machine's file for it":           {Schedule{Cron: "@daily", TimeZone: "localtime"}, "time_zone must be"},
		"a zone that counts leap seconds":     {Schedule{Cron: "@daily", TimeZone: "right/Europe/Berlin"}, "time_zone must be"},
		"a zone without its area":             {Schedule{Cron: "@daily", TimeZone: "Japan"}, "time_zone must be"},
		"a path to a zone":                    {Schedule{Cron: "@daily", TimeZone: "/usr/share/zoneinfo/Europe/Berlin"}, "time_zone must be"},
		"a path out of the zones":             {Schedule{Cron: "@daily", TimeZone: "Europe/../../../etc/hosts"}, "time_zone must be"},
		"a zone that is a folder":             {Schedule{Cron: "@daily", TimeZone: "America/Argentina"}, "time_zone must be"},
		"a zone in the expression":            {Schedule{Cron: "TZ=Europe/Berlin * * * * *"}, "another number of fields"},
		"a zone in place of a field":          {Schedule{Cron: "TZ=Europe/Berlin * * * *"}, "minute field"},
		"seconds":                             {Schedule{Cron: "0 30 3 * * 1"}, "none for seconds"},
		"four fields":                         {Schedule{Cron: "30 3 * *"}, "another number of fields"},
		"spaces alone":                        {Schedule{Cron: "   "}, "another number of fields"},
		"a tab":                               {Schedule{Cron: "30\t3 * * *"}, "another number of fields"},
		"a line break":                        {Schedule{Cron: "30 3 * * *\n"}, "weekday field"},
		"@every":                              {Schedule{Cron: "@every 1h"}, "rotation_interval_secs"},
		"@reboot":                             {Schedule{Cron: "@reboot"}, "none of them"},
		"a name in capitals":                  {Schedule{Cron: "@DAILY"}, "none of them"},
		"257 bytes":                           {Schedule{Cron: "0" + strings.Repeat(",0", 124) + " * * * *"}, "longer than 256"},
		"minute 60":                           {Schedule{Cron: "60 * * * *"}, "minute field has a number"},
		"hour 24":                             {Schedule{Cron: "0 24 * * *"}, "hour field has a number"},
		"day 0":                               {Schedule{Cron: "0 0 0 * *"}, "day-of-month field has a number"},
		"day 32":                              {Schedule{Cron: "0 0 1-32 * *"}, "day-of-month field has a number"},
		"month 13":                            {Schedule{Cron: "0 0 * 13 *"}, "month field has a number"},
		"month 0":                             {Schedule{Cron: "0 0 * 0 *"}, "month field has a number"},
		"a month that isn't":                  {Schedule{Cron: "0 0 * MAI *"}, "month field has a number or name"},
		"weekday 8":                           {Schedule{Cron: "0 0 * * 8"}, "weekday field has a number"},
		"a step of 0":                         {Schedule{Cron: "*/0 * * * *"}, "minute field has a number"},
		"a step beyond the field":             {Schedule{Cron: "*/60 * * * *"}, "minute field has a number"},
		"a step without a range":              {Schedule{Cron: "5/10 * * * *"}, "minute field is not"},
		"a step on a range of weekdays":       {Schedule{Cron: "0 0 * * FRI-MON/2"}, "weekday field is not"},
		"a star in a list that isn't closed":  {Schedule{Cron: "*, * * * *"}, "minute field is not"},
		"an empty element":                    {Schedule{Cron: "1,,2 * * * *"}, "minute field is not"},
		"a comma alone":                       {Schedule{Cron: ", * * * *"}, "minute field is not"},
		"a question mark":                     {Schedule{Cron: "0 0 ? * 1"}, "day-of-month field is not"},
		"a negative number":                   {Schedule{Cron: "-1 * * * *"}, "minute field is not"},
		"a signed number":                     {Schedule{Cron: "+1 * * * *"}, "minute field is not"},
		"a hashed minute":                     {Schedule{Cron: "H * * * *"}, "minute field is not"},
		"the nearest weekday":                 {Schedule{Cron: "0 0 15W * *"}, "day-of-month field is not"},
		"days before the last":                {Schedule{Cron: "0 0 L-3 * *"}, "day-of-month field is not"},
		"the sixth Monday":                    {Schedule{Cron: "0 0 * * MON#6"}, "weekday field is not"},
		"both days":                           {Schedule{Cron: "0 0 1 * MON"}, "leave one of them '*'"},
		"both days with a step":               {Schedule{Cron: "0 0 */2 * MON"}, "leave one of them '*'"},
		"30 February":                         {Schedule{Cron: "0 0 30 2 *"}, "never comes"},
		"31 April, June, September, November": {Schedule{Cron: "0 0 31 4,6,9,11 *"}, "never comes"},
	} {
		t.Run("refuses "+claim, func(t *testing.T) {
			t.Parallel()
			if message := wantFault(t, c.s.Validate(), fault.Invalid); !strings.Contains(message, c.says) {
				t.Errorf("%q is not in: %s", c.says, message)
			}
			if due := c.s.Next(noon, early); !due.IsZero() {
				t.Errorf("it is due at %s", due)
			}
			if c.s.MissedWindow(noon, noon.Add(1000*time.Hour), early) {
				t.Error("its window was missed")
			}
		})
	}
}

func TestI11_ScheduleErrorsDoNotRepeatTheInput(t *testing.T) {
	t.Parallel()
	const canary = "hunter2canary"
	for _, s := range []Schedule{
		{Cron: canary},
		{Cron: "@" + canary},
		{Cron: "* * * * " + canary},
		{Cron: "@daily", TimeZone: canary},
		{Cron: "@daily", Missed: canary},
		{Cron: "0 0 * hun *"},
	} {
		if err := s.Validate(); err == nil || strings.Contains(err.Error(), "hun") {
			t.Errorf("Validate: %v", err)
		}
	}
}

func TestScheduleNext_Interval(t *testing.T) {
	t.Parallel()
	s := Schedule{Interval: 10 * time.Hour}
	after := noon.Add(999).In(time.FixedZone("east", 7200))

	t.Run("it comes an interval later, and up to a tenth more", func(t *testing.T) {
		t.Parallel()
		lowest, highest := time.Duration(1<<62), time.Duration(0)
		for i := range 1000 {
			delay := s.Next(after, uuid.NewSHA1(uuid.Nil, []byte{byte(i), byte(i >> 8)})).Sub(noon) - 10*time.Hour
			lowest, highest = min(lowest, delay), max(highest, delay)
		}
		if lowest < 0 || lowest > time.Minute || highest >= time.Hour || highest < 59*time.Minute {
			t.Errorf("delays from %s to %s", lowest, highest)
		}
	})
	t.Run("it is in UTC and in microseconds, and always the same", func(t *testing.T) {
		t.Parallel()
		due := s.Next(after, early)
		if due != due.UTC().Truncate(time.Microsecond) || due.Location() != time.UTC || s.Next(after, early) != due {
			t.Errorf("due at %s", due)
		}
		if s.Next(after, late) == due {
			t.Error("another secret is due at the same time")
		}
	})
	t.Run("years end with 9999", func(t *testing.T) {
		t.Parallel()
		end := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
		for _, s := range []Schedule{{Interval: time.Second}, {Cron: "* * * * *"}, {Cron: "0 0 29 2 *"}} {
			for _, after := range []time.Time{end.Add(-time.Second), end, end.Add(1e6 * time.Hour), time.Unix(math.MaxInt64-62135596800, 0)} {
				if due := s.Next(after, early); !due.IsZero() {
					t.Errorf("after %s it is due at %s", after, due)
				}
			}
			if due := s.Next(end.AddDate(-9, 0, 0), early); due.IsZero() {
				t.Error("in 9990 it is due no more")
			}
		}
	})
	t.Run("what is before 1970 counts as 1970", func(t *testing.T) {
		t.Parallel()
		for _, s := range []Schedule{s, {Cron: "@yearly", TimeZone: "Europe/Berlin"}} {
			want := s.Next(time.Unix(0, 0), early)
			if want.Year() > 1971 || s.Next(time.Time{}, early) != want || s.Next(time.Unix(-1<<60, 0), early) != want {
				t.Errorf("due at %s", s.Next(time.Time{}, early))
			}
		}
	})
}

func TestJitter(t *testing.T) {
	t.Parallel()
	// Of these ids, as another implementation of SHA-256 gives it.
	for id, want := range map[uuid.UUID]uint64{uuid.Nil: 0xeccd39a1332bfbba, early: 0xbda354183b1258e5} {
		if got := jitter(id); got != want {
			t.Errorf("%s: %#x, want %#x", id, got, want)
		}
	}
	for _, c := range []struct {
		d        time.Duration
		fraction uint64
		want     time.Duration
	}{
		{time.Hour, 0, 0},
		{time.Hour, 1 << 63, 30 * time.Minute},
		{time.Hour, 1<<64 - 1, time.Hour - time.Microsecond},
		{0, 1<<64 - 1, 0},
		{1<<63 - 1, 1 << 62, (1<<61 - 1) / 1000 * 1000},
	} {
		if got := part(c.d, c.fraction); got != c.want {
			t.Errorf("%d of %s is %s, want %s", c.fraction, c.d, got, c.want)
		}
	}
}

func TestScheduleNext_CronDelays(t *testing.T) {
	t.Parallel()
	at := func(hour, minute int) time.Time { return time.Date(2026, 3, 1, hour, minute, 0, 0, time.UTC) }
	daily := Schedule{Cron: "0 3 * * *"}
	delay := daily.Next(at(2, 0), early).Sub(at(3, 0))

	t.Run("it is a part of an hour at most", func(t *testing.T) {
		t.Parallel()
		if want := part(time.Hour, jitter(early)); delay != want || delay < time.Minute {
			t.Errorf("%s, want %s", delay, want)
		}
		uneven := Schedule{Cron: "0 3,5 * * *"}
		if got, want := uneven.Next(at(2, 0), early).Sub(at(3, 0)), part(12*time.Minute, jitter(early)); got != want {
			t.Errorf("before a shorter gap %s, want %s", got, want)
		}
	})
	t.Run("a delay that is not over is not lost, and one that is comes a day later", func(t *testing.T) {
		t.Parallel()
		due := at(3, 0).Add(delay)
		for _, after := range []time.Time{at(3, 0), due.Add(-time.Nanosecond)} {
			if got := daily.Next(after, early); got != due {
				t.Errorf("after %s: %s, want %s", after, got, due)
			}
		}
		for _, after := range []time.Time{due, due.Add(1), at(23, 0)} {
			if got := daily.Next(after, early); got != due.AddDate(0, 0, 1) {
				t.Errorf("after %s: %s", after, got)
			}
		}
	})
	t.Run("it takes at most half of the window", func(t *testing.T) {
		t.Parallel()
		windowed := daily
		windowed.Window = 10 * time.Minute
		for i := range 100 {
			id := uuid.NewSHA1(uuid.Nil, []byte{byte(i)})
			if got := windowed.Next(at(2, 0), id).Sub(at(3, 0)); got != part(5*time.Minute, jitter(id)) {
				t.Errorf("%s", got)
			}
		}
	})
}

func TestScheduleMissedWindow(t *testing.T) {
	t.Parallel()
	s := Schedule{Cron: "0 3 * * *", TimeZone: "Europe/Berlin", Window: 2 * time.Hour, Missed: MissedWait}
	opens := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	due := s.Next(opens.Add(-time.Second), early)
	for claim, c := range map[string]struct {
		s    Schedule
		now  time.Time
		want bool
	}{
		"it is not missed before it is due":                   {s, opens.Add(-time.Hour), false},
		"it is not missed when it is due":                     {s, due, false},
		"it is not missed within the window":                  {s, opens.Add(2*time.Hour - time.Microsecond), false},
		"it is missed when the window ends":                   {s, opens.Add(2 * time.Hour), true},
		"it is missed before the next window":                 {s, opens.Add(24*time.Hour - time.Microsecond), true},
		"it is made up for once a later window is open":       {s, opens.Add(24 * time.Hour), false},
		"it is missed after that one, too":                    {s, opens.Add(26 * time.Hour), true},
		"nothing is missed that is made up for":               {Schedule{Cron: s.Cron, TimeZone: s.TimeZone, Window: s.Window, Missed: MissedCatchUp}, opens.Add(20 * time.Hour), false},
		"nothing is missed by default":                        {Schedule{Cron: s.Cron, TimeZone: s.TimeZone, Window: s.Window}, opens.Add(20 * time.Hour), false},
		"nothing is missed without a window":                  {Schedule{Cron: s.Cron}, opens.Add(20 * time.Hour), false},
		"nothing is missed by an interval":                    {Schedule{Interval: time.Hour}, opens.Add(20 * time.Hour), false},
		"nothing is missed by windows that follow each other": {Schedule{Cron: "@hourly", Window: time.Hour, Missed: MissedWait}, opens.Add(20*time.Hour - 1), false},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			if got := c.s.MissedWindow(due, c.now, early); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
