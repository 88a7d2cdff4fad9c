package secret

import (
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // zones on machines that have none of their own; the one place that brings them along, about 450 KB

	"github.com/netresearch/go-cron"
)

const (
	maxCronBytes = 256
	// cronSearchYears is how far ahead a time of cron may lie. The rarest date that fields can name is a fifth weekday of
	// February, at most 40 years after the one before.
	cronSearchYears = 50
)

const cronRule = "cron takes five fields, minute hour day-of-month month weekday, like '30 3 * * SUN#1', " +
	"or one of @hourly, @daily, @weekly, @monthly, @yearly; "

// cronNames are the expressions that have a name.
var cronNames = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
	"@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}

// cronFields says what each field may hold. The parser takes more than that: fields with nothing in them, '5/10', '?', a step on a
// range of weekdays, which it gets wrong where the week begins anew. What isn't documented is refused before it gets there.
var cronFields = [5]struct {
	name   string
	syntax *regexp.Regexp
}{
	{"minute", cronList(`\*(/N)?|N(-N(/N)?)?`)},
	{"hour", cronList(`\*(/N)?|N(-N(/N)?)?`)},
	{"day-of-month", cronList(`\*(/N)?|N(-N(/N)?)?|L`)},
	{"month", cronList(`\*(/N)?|N(-N(/N)?)?|A(-A)?`)},
	{"weekday", cronList(`\*(/N)?|(N|A)(-(N|A)|#[1-5L])?`)},
}

func cronList(element string) *regexp.Regexp {
	element = "(" + strings.NewReplacer("N", "[0-9]{1,2}", "A", "[A-Za-z]{3}").Replace(element) + ")"
	return regexp.MustCompile("^" + element + "(," + element + ")*$")
}

// cronParser is told the zone of nothing: it computes with what a wall clock shows, and occurrences turns that into instants.
var cronParser = cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.DomL | cron.DowNth | cron.DowLast).
	WithMaxSearchYears(cronSearchYears)

// parseCron reads an expression, or says what is wrong with it.
func parseCron(expression string) (*cron.SpecSchedule, string) {
	if named, ok := cronNames[expression]; ok {
		expression = named
	}
	if len(expression) > maxCronBytes {
		return nil, cronRule + "this one is longer than 256 bytes"
	}
	if strings.HasPrefix(expression, "@") {
		return nil, cronRule + "this name is none of them: for every so many seconds, use rotation_interval_secs"
	}
	fields := strings.FieldsFunc(expression, func(r rune) bool { return r == ' ' })
	if len(fields) != len(cronFields) {
		return nil, cronRule + "this one has another number of fields, and there is none for seconds or years"
	}
	for i, field := range cronFields {
		if !field.syntax.MatchString(fields[i]) {
			return nil, cronRule + "its " + field.name + " field is not '*', a number, a name, a range 'a-b', '*' or a range with '/step', " +
				"or a list of these with commas; the last day of a month is L, its first Monday MON#1, its last one MON#L"
		}
		// Alone, so that it can be told which of them it is. The parser takes an upper-case H, as in THU, for something else.
		alone := []string{"*", "*", "*", "*", "*"}
		alone[i] = strings.ToLower(fields[i])
		if _, err := cronParser.Parse(strings.Join(alone, " ")); err != nil {
			return nil, cronRule + "its " + field.name + " field has a number or name that is out of range"
		}
	}
	if fields[2] != "*" && fields[4] != "*" {
		return nil, cronRule + "this one restricts both the day of the month and the weekday, which some programs take for 'and' and some " +
			"for 'or': leave one of them '*', and write SUN#1 for the first Sunday of the month"
	}
	parsed, err := cronParser.Parse(strings.ToLower(strings.Join(fields, " ")))
	spec, ok := parsed.(*cron.SpecSchedule)
	if err != nil || !ok {
		return nil, cronRule + "this one can't be read"
	}
	spec.Location = time.UTC
	if spec.Next(time.Unix(0, 0).UTC()).IsZero() {
		return nil, cronRule + "this one names a date that never comes"
	}
	return spec, ""
}

// Only these, and not what else lies where the system keeps its zones: "localtime" and "posixrules" are other zones on other
// machines, and those below "right/" count leap seconds.
var zoneSyntax = regexp.MustCompile(`^(UTC|[A-Z][A-Za-z]+(/[A-Z][A-Za-z0-9_+-]*){1,2})$`)

// loadZone gives the zone of that name, or false. The system's own data comes first, as it is kept up to date.
func loadZone(name string) (*time.Location, bool) {
	if name == "" || name == "UTC" {
		return time.UTC, true
	}
	if len(name) > 64 || !zoneSyntax.MatchString(name) {
		return nil, false
	}
	zone, err := time.LoadLocation(name)
	return zone, err == nil
}

// occurrences are the instants of a cron expression in a zone. An expression says what a clock on the wall shows, and each
// reading happens exactly once, as soon as the clock shows that or more: what falls into the gap when clocks go forward happens
// at the end of the gap, together with what happens then anyway; what the clock shows twice when it is put back happens the
// first time. So where an hour is repeated, an hourly schedule pauses for one.
type occurrences struct {
	spec *cron.SpecSchedule
	zone *time.Location
}

// after gives the first one after t, or zero if there is none.
func (o occurrences) after(t time.Time) time.Time {
	// None is missed by starting from what the clock shows at t: whatever it showed before has happened.
	for wall := wallClock(t, o.zone); ; {
		if wall = o.spec.Next(wall); wall.IsZero() {
			return time.Time{}
		}
		if at := o.instant(wall); at.After(t) {
			return at
		}
	}
}

// upTo gives the last one at or before t, or zero if there is none.
func (o occurrences) upTo(t time.Time) time.Time {
	wall := o.spec.Prev(wallClock(t, o.zone).Add(time.Second)) // at or before what the clock shows, as there are no parts of seconds
	if wall.IsZero() {
		return time.Time{}
	}
	// In a repeated hour the clock has shown later times before.
	for last := o.instant(wall); ; {
		next := o.after(last)
		if next.IsZero() || next.After(t) {
			return last
		}
		last = next
	}
}

// instant gives the first instant at which the clock shows wall or more.
func (o occurrences) instant(wall time.Time) time.Time {
	// time.Date doesn't say which instant it gives in a gap or in a repeated hour.
	for t := wall.Add(-48 * time.Hour).In(o.zone); ; { // before it in any zone
		_, offset := t.Zone()
		_, end := t.ZoneBounds()
		at := wall.Add(-time.Duration(offset) * time.Second)
		if at.Before(t) {
			at = t
		}
		if end.IsZero() || at.Before(end) {
			return at.UTC()
		}
		t = end
	}
}

// wallClock gives what a clock shows at t, as if it were UTC.
func wallClock(t time.Time, zone *time.Location) time.Time {
	t = t.In(zone)
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}
