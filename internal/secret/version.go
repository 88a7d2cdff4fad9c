package secret

import "time"

// MaxValidVersions is the most versions of one secret that can be valid at the same time. verify opens every one
// of them, so this bounds its work; a change that would make one more is refused until one has expired.
const MaxValidVersions = 16

// MaxEndedVersions is how many superseded versions of one secret stay once their grace has ended. A change that makes a version removes
// older ones: each change reads all versions that there are.
const MaxEndedVersions = 16

// State is where a version is in its life.
type State string

const (
	// Pending versions are stored and not yet in use.
	Pending State = "pending"
	// Current is the one version that a plain read gives.
	Current State = "current"
	// Superseded versions were current and live on for the grace period.
	Superseded State = "superseded"
	// Abandoned versions were pending and will not become current; they might be live at a target, so they stay.
	Abandoned State = "abandoned"
)

// Valid tells whether a version may be opened, and may match at verify: the current one always, a superseded one
// while now is before expiresAt (I9), any other never. now is the database's clock, not this process's. The
// instant expiresAt itself is already too late, and a superseded version without one is not valid (I4).
func Valid(state State, expiresAt *time.Time, now time.Time) bool {
	switch state {
	case Current:
		return true
	case Superseded:
		return expiresAt != nil && now.Before(*expiresAt)
	case Pending, Abandoned:
		return false
	}
	return false // not a state
}

// Seconds turns a count of seconds, as requests carry them, into a duration. Counts that a duration can't hold
// (beyond about 292 years) give the longest or the most negative one, which Settings.Validate then refuses.
func Seconds(n int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Second)
	switch {
	case n > most:
		return 1<<63 - 1
	case n < -most:
		return -1 << 63
	}
	return time.Duration(n) * time.Second
}
