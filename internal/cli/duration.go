package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	day     = 24 * time.Hour
	maxDays = 36500
)

// durationHelp describes what parseSeconds takes.
const durationHelp = "such as 90d, 12h or 1h30m"

// parseSeconds reads a length of time in whole seconds: days as "90d", anything smaller as Go writes it.
func parseSeconds(s string) (int64, error) {
	d, err := time.ParseDuration(s)
	if days, isDays := strings.CutSuffix(s, "d"); isDays {
		var n int64
		n, err = strconv.ParseInt(days, 10, 64)
		d = time.Duration(min(max(n, -1), maxDays+1)) * day // what is out of range stays so, and doesn't overflow
		if errors.Is(err, strconv.ErrRange) {
			err = nil
		}
	}
	switch {
	case err != nil && isNumber(s):
		return 0, fmt.Errorf("%s of what? Name the unit: %ss, %sm, %sh or %sd", s, s, s, s, s)
	case err != nil:
		return 0, errors.New("give a length of time with its unit, " + durationHelp)
	case d < 0:
		return 0, errors.New("a length of time isn't negative: give one " + durationHelp)
	case d > maxDays*day:
		return 0, fmt.Errorf("that is too long: give %dd at most", maxDays)
	case d%time.Second != 0:
		return 0, errors.New("give whole seconds, " + durationHelp)
	}
	return int64(d / time.Second), nil
}

// isNumber tells whether a text is a number without a unit, short enough to be said again.
func isNumber(s string) bool {
	return len(s) > 0 && len(s) <= 12 && strings.Trim(s, "0123456789") == ""
}

// showSeconds is the shortest form that parseSeconds reads back.
func showSeconds(n int64) string {
	d := time.Duration(n) * time.Second
	switch {
	case n == 0:
		return "0s"
	case d%day == 0:
		return strconv.FormatInt(n/int64(day/time.Second), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// secondsFlag is a flag for a length of time. It tells whether it was given.
type secondsFlag struct {
	seconds int64
	given   bool
}

// Set implements pflag.Value.
func (f *secondsFlag) Set(s string) (err error) {
	f.seconds, err = parseSeconds(s)
	f.given = true
	return err
}

// String implements pflag.Value.
func (f *secondsFlag) String() string {
	if !f.given {
		return ""
	}
	return showSeconds(f.seconds)
}

// Type implements pflag.Value: what help calls the argument.
func (f *secondsFlag) Type() string { return "duration" }

// orNil is the number of seconds for JSON, nil when the flag was not given.
func (f *secondsFlag) orNil() *int64 {
	if !f.given {
		return nil
	}
	return &f.seconds
}
