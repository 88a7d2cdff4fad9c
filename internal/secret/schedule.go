package secret

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/fault"
)

// Limits of Schedule.Window.
const (
	MinWindow = time.Minute
	MaxWindow = 366 * 24 * time.Hour
)

// maxDelay is how long after a time of Cron without a window a secret is due at most: who writes a time means about that time.
const maxDelay = time.Hour

// jitterLabel begins what is hashed to spread the rotations of different secrets.
const jitterLabel = "sealkeep/rotation-jitter/v1"

// Missed says what becomes of a rotation whose window has passed.
type Missed string

const (
	// MissedCatchUp makes up for it at once. The empty Missed means the same.
	MissedCatchUp Missed = "catch_up"
	// MissedWait leaves it out: the next window is the next chance.
	MissedWait Missed = "wait"
)

// Schedule says when an automatic secret is due: every Interval, or as Cron says. Exactly one of the two is set.
//
// Cron has five fields: minute (0-59), hour (0-23), day of month (1-31, or L for the last one), month (1-12, or JAN to DEC) and weekday
// (0-7, 0 and 7 being Sunday, or SUN to SAT; FRI#2 is the second Friday of the month and FRI#L the last). A field is '*', a value, a
// range that may run past the end (22-2, FRI-MON), '*' or a range of numbers with a step ('*/15', 8-18/2; not for a range of
// weekdays), or a list of these with commas. One of the two day fields is '*'. @hourly, @daily (@midnight), @weekly, @monthly and
// @yearly (@annually) stand for the beginning of each.
//
// Cron is read on a clock in TimeZone, where each time happens exactly once: one that is skipped when clocks go forward happens
// at the end of the gap, and one that comes twice when they are put back happens the first time.
type Schedule struct {
	// Interval is in whole seconds, 1 second to 10 years; zero with Cron.
	Interval time.Duration
	// Cron is at most 256 bytes; empty with Interval.
	Cron string
	// TimeZone is "UTC" or a name of the IANA database with its area, like Europe/Berlin; "" is UTC. Only with Cron.
	TimeZone string
	// Window is how long after a time of Cron a rotation may still begin, in whole seconds, 1 minute to 366 days; 0 sets no
	// limit. Only with Cron.
	Window time.Duration
	// Missed says what happens once a window has passed. Only with Cron, and MissedWait only with a Window.
	Missed Missed
}

// Validate checks the limits and says which is broken. Errors are of kind Invalid and never repeat the input.
func (s Schedule) Validate() error {
	if problem := s.problem(); problem != "" {
		return fault.New(fault.Invalid, problem)
	}
	return nil
}

func (s Schedule) problem() string {
	_, problem := s.parse()
	return problem
}

// parse gives what Cron says, nothing for an interval, and what is wrong with s.
func (s Schedule) parse() (o occurrences, problem string) {
	switch {
	case s.Cron == "" && s.Interval == 0:
		return o, "an automatic secret needs rotation_interval_secs, 1 to 315360000 (10 years), or cron"
	case s.Cron != "" && s.Interval != 0:
		return o, "rotation_interval_secs and cron exclude each other: leave one of them out"
	case s.Cron == "":
		return o, s.intervalProblem()
	}
	if problem := s.windowProblem(); problem != "" {
		return o, problem
	}
	spec, problem := parseCron(s.Cron)
	if problem != "" {
		return o, problem
	}
	zone, ok := loadZone(s.TimeZone)
	if !ok {
		return o, "time_zone must be UTC or a zone of the IANA database with its area, like Europe/Berlin or Etc/GMT-2"
	}
	return occurrences{spec: spec, zone: zone}, ""
}

func (s Schedule) intervalProblem() string {
	switch {
	case s.Interval < MinRotationInterval, s.Interval > MaxRotationInterval, !wholeSeconds(s.Interval):
		return "rotation_interval_secs must be 1 to 315360000 whole seconds (10 years)"
	case s.TimeZone != "":
		return "time_zone goes with cron: leave it out, or say when to rotate with cron"
	case s.Window != 0:
		return "window_secs goes with cron: leave it out, or say when to rotate with cron"
	case s.Missed != "":
		return "missed goes with cron: leave it out, or say when to rotate with cron"
	}
	return ""
}

func (s Schedule) windowProblem() string {
	switch {
	case s.Window != 0 && (s.Window < MinWindow || s.Window > MaxWindow || !wholeSeconds(s.Window)):
		return "window_secs must be 60 to 31622400 whole seconds (366 days), or 0 for no limit"
	case s.Missed != "" && s.Missed != MissedCatchUp && s.Missed != MissedWait:
		return "missed must be catch_up or wait"
	case s.Missed == MissedWait && s.Window == 0:
		return "missed can be wait only with window_secs, as nothing is missed without a window: set it, 60 to 31622400"
	}
	return ""
}

// Next gives when a secret is due for the first time after `after`, in UTC and whole microseconds. Each secret keeps its own place
// in the order of all: the fraction of a delay that its id gives. With Interval the delay is 0 to 10% of it; with Cron, 0 to 10% of
// the time until the following occurrence, and at most half of the window, or an hour without one. What is before 1970 counts as 1970.
//
// It gives the zero time for never: beyond year 9999, and for a schedule that Validate refuses.
func (s Schedule) Next(after time.Time, id uuid.UUID) time.Time {
	o, problem := s.parse()
	if problem != "" || after.Year() > maxYear {
		return time.Time{}
	}
	if epoch := time.Unix(0, 0).UTC(); after.Before(epoch) {
		after = epoch
	}
	fraction := jitter(id)
	if s.Interval > 0 {
		return untilMaxYear(after.UTC().Truncate(time.Microsecond).Add(s.Interval + part(s.Interval/10, fraction)))
	}
	// What the last time of cron made due may still be ahead. There is one within cronSearchYears before 1970, too.
	for at := o.upTo(after); !at.IsZero(); {
		following := o.after(at)
		if due := at.Add(s.delay(following.Sub(at), fraction)); due.After(after) {
			return untilMaxYear(due)
		}
		at = following
	}
	return time.Time{}
}

// delay gives how long after a time of Cron a secret is due, if the following one is gap later.
func (s Schedule) delay(gap time.Duration, fraction uint64) time.Duration {
	most := maxDelay
	if s.Window > 0 {
		most = s.Window / 2
	}
	return part(min(most, max(gap/10, 0)), fraction)
}

// MissedWindow tells whether a rotation that was due at `due` must not begin at now, and waits for Next(now, id): the window that it
// was in has passed, no later one is open, and Missed says wait. A window is open from its time of Cron until Window later, and no
// longer at that instant.
func (s Schedule) MissedWindow(due, now time.Time, _ uuid.UUID) bool {
	if s.Missed != MissedWait || now.Before(due) {
		return false
	}
	o, problem := s.parse()
	if problem != "" {
		return false
	}
	last := o.upTo(now)
	return last.IsZero() || now.Sub(last) >= s.Window
}

// jitter gives the place of a secret among all, as a fraction of 2^64: the first 8 bytes of a hash over its id.
func jitter(id uuid.UUID) uint64 {
	hash := sha256.Sum256(canon.UUID(canon.Start(nil, jitterLabel), id))
	return binary.BigEndian.Uint64(hash[:8])
}

// part gives a fraction of d, in whole microseconds, less than d itself. In integers, so that every machine gets the same.
func part(d time.Duration, fraction uint64) time.Duration {
	high, _ := bits.Mul64(fraction, uint64(d))            //nolint:gosec // d is not negative
	return time.Duration(high).Truncate(time.Microsecond) //nolint:gosec // less than d
}

// maxYear is the last year that RFC 3339 can write.
const maxYear = 9999

func untilMaxYear(t time.Time) time.Time {
	if t.Year() > maxYear {
		return time.Time{}
	}
	return t
}
