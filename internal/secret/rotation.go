package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// ErrMalformedRotation says that stored bytes are not what Rotation.Encode gives.
var ErrMalformedRotation = errors.New("secret: malformed rotation settings")

// Rotation is how a secret is rotated and what it may be used for in rotating others, as far as it is stored together.
type Rotation struct {
	// Schedule is stored but for its Interval, which has a column of its own: who decodes puts it there.
	Schedule Schedule
	// Policy is how generated values look.
	Policy PasswordPolicy
	// LoginHosts are the servers that a login secret may be sent to, at most 64, in the form of CanonicalHosts.
	LoginHosts []string
	// Paused stops rotations on the schedule.
	Paused bool
	// PausedDue is when the secret was due when it was paused, in whole microseconds, at most in year 9999; only with Paused.
	PausedDue *time.Time
}

// Validate checks the limits; a zero Schedule passes, as a manual secret has none. Errors are of kind Invalid and never repeat the
// input.
func (r Rotation) Validate() error {
	var problem string
	if r.Schedule != (Schedule{}) {
		problem = r.Schedule.problem()
	}
	for _, next := range []string{r.Policy.problem(), loginHostsProblem(r.LoginHosts), r.pausedProblem()} {
		if problem == "" {
			problem = next
		}
	}
	if problem != "" {
		return fault.New(fault.Invalid, problem)
	}
	return nil
}

func (r Rotation) pausedProblem() string {
	switch {
	case r.PausedDue == nil:
		return ""
	case !r.Paused:
		return "paused_due goes with paused: leave it out"
	case r.PausedDue.UTC().Year() < 1 || r.PausedDue.UTC().Year() > maxYear:
		return "paused_due must be in the years 1 to 9999"
	}
	return ""
}

// dueLayout is RFC 3339 in UTC with microseconds, always all six digits.
const dueLayout = "2006-01-02T15:04:05.000000Z"

// Encode gives the one JSON text of r: an object as RFC 8785 (JCS) writes it, without the fields that have their zero value; hosts
// and classes are put in order. The bytes are stored and authenticated as they are. If everything is zero, it gives nil. What
// Validate refuses has no defined result.
func (r Rotation) Encode() []byte {
	var o object
	o.text("cron", r.Schedule.Cron)
	o.texts("login_hosts", hostSet(r.LoginHosts))
	o.text("missed", string(r.Schedule.Missed))
	if !r.Policy.IsZero() {
		var p object
		p.text("alphabet", r.Policy.Alphabet)
		p.texts("classes", sortedClasses(r.Policy.Classes))
		p.number("length", int64(r.Policy.Length))
		o.object("password", p)
	}
	o.flag("paused", r.Paused)
	if r.PausedDue != nil {
		o.text("paused_due", r.PausedDue.UTC().Format(dueLayout))
	}
	o.text("time_zone", r.Schedule.TimeZone)
	o.number("window_secs", int64(r.Schedule.Window/time.Second))
	if o.empty() {
		return nil
	}
	return o.bytes()
}

// rotationJSON is what DecodeRotation reads.
type rotationJSON struct {
	Cron       string       `json:"cron"`
	LoginHosts []string     `json:"login_hosts"`
	Missed     Missed       `json:"missed"`
	Password   passwordJSON `json:"password"`
	Paused     bool         `json:"paused"`
	PausedDue  string       `json:"paused_due"`
	TimeZone   string       `json:"time_zone"`
	WindowSecs int64        `json:"window_secs"`
}

type passwordJSON struct {
	Alphabet string   `json:"alphabet"`
	Classes  []string `json:"classes"`
	Length   int      `json:"length"`
}

// DecodeRotation reads what Rotation.Encode gave; nil and empty bytes are the zero value. It is strict about structure and leaves
// the limits to Validate. Bytes that would be encoded otherwise are an error of kind Internal that wraps ErrMalformedRotation.
func DecodeRotation(b []byte) (Rotation, error) {
	if len(b) == 0 {
		return Rotation{}, nil
	}
	var j rotationJSON
	r, err := Rotation{}, json.Unmarshal(b, &j)
	if err == nil {
		r, err = j.rotation()
	}
	// Encoding again and comparing refuses everything that the decoder lets pass, fields that it doesn't know among it.
	if err != nil || !bytes.Equal(r.Encode(), b) {
		return Rotation{}, fault.Wrap(fault.Internal, ErrMalformedRotation, "")
	}
	return r, nil
}

func (j rotationJSON) rotation() (Rotation, error) {
	r := Rotation{
		Schedule:   Schedule{Cron: j.Cron, TimeZone: j.TimeZone, Window: Seconds(j.WindowSecs), Missed: j.Missed},
		Policy:     PasswordPolicy{Length: j.Password.Length, Alphabet: j.Password.Alphabet, Classes: j.Password.Classes},
		LoginHosts: j.LoginHosts,
		Paused:     j.Paused,
	}
	if j.PausedDue == "" {
		return r, nil
	}
	due, err := time.Parse(dueLayout, j.PausedDue)
	if err != nil || !j.Paused {
		return Rotation{}, ErrMalformedRotation
	}
	r.PausedDue = &due
	return r, nil
}
