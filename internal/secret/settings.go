package secret

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// Limits of Settings. Days are of 24 hours, years of 365 days.
const (
	MinRotationInterval   = time.Second
	MaxRotationInterval   = 10 * 365 * 24 * time.Hour
	MaxGracePeriod        = 366 * 24 * time.Hour
	MaxDescriptionBytes   = 1024
	MaxMetadataKeys       = 64
	MaxMetadataKeyBytes   = 128
	MaxMetadataValueBytes = 512
)

// Settings are what a secret is told about itself, apart from its name and its material. None of it is secret:
// it is stored and listed in clear.
type Settings struct {
	Kind Kind
	// Description is at most 1024 bytes of printable UTF-8, on one line.
	Description string
	// RotationInterval is in whole seconds: 1 second to 10 years for an automatic secret without a cron expression, else zero.
	RotationInterval time.Duration
	// Rotation is what else it is told about its rotation. A manual secret has no schedule, password policy or pause.
	Rotation Rotation
	// Target is what a rotation changes outside the vault; nil for a manual secret, and for most others. Whether it suits the
	// secret's format is for Target.Validate.
	Target *Target
	// GracePeriod is how long a version lives on once it is superseded, in whole seconds, 0 to 366 days.
	GracePeriod time.Duration
	// CustomMetadata is the caller's own: at most 64 pairs, keys of 1 to 128 bytes without control characters,
	// values of at most 512 bytes without NUL, both UTF-8.
	CustomMetadata map[string]string
}

// Validate checks the limits and says which is broken. Errors are of kind Invalid and never repeat the input.
func (s Settings) Validate() error {
	if _, err := ParseKind(string(s.Kind)); err != nil {
		return err
	}
	for _, problem := range []string{
		s.intervalProblem(), s.manualProblem(), s.graceProblem(), s.descriptionProblem(), s.metadataProblem(),
	} {
		if problem != "" {
			return fault.New(fault.Invalid, problem)
		}
	}
	return s.Rotation.Validate()
}

func (s Settings) intervalProblem() string {
	switch {
	case s.Kind == Manual && s.RotationInterval != 0:
		return "a manual secret has no rotation_interval_secs: leave it out, or create an automatic secret"
	case s.Kind == Manual:
		return ""
	case s.RotationInterval == 0 && s.Rotation.Schedule == (Schedule{}):
		return "an automatic secret needs rotation_interval_secs, 1 to 315360000 (10 years), or a rotation_schedule with a cron expression"
	case s.RotationInterval == 0:
		return ""
	case s.Rotation.Schedule != (Schedule{}):
		return "a secret has rotation_interval_secs or rotation_schedule, not both: set the other one to null"
	case s.RotationInterval < MinRotationInterval, s.RotationInterval > MaxRotationInterval, !wholeSeconds(s.RotationInterval):
		return "rotation_interval_secs must be 1 to 315360000 whole seconds (10 years)"
	}
	return ""
}

func (s Settings) manualProblem() string {
	if s.Kind != Manual {
		return ""
	}
	switch r := s.Rotation; {
	case r.Schedule != (Schedule{}):
		return "a manual secret has no rotation_schedule: leave it out, or create an automatic secret"
	case !r.Policy.IsZero():
		return "a manual secret has no password_policy: leave it out, or create an automatic secret"
	case r.Paused:
		return "a manual secret can't be paused: nothing rotates it"
	case s.Target != nil:
		return "a manual secret has no target: leave it out, or create an automatic secret"
	}
	return ""
}

// Schedule is when the secret is due; the zero Schedule for a manual one.
func (s Settings) Schedule() Schedule {
	schedule := s.Rotation.Schedule
	schedule.Interval = s.RotationInterval
	return schedule
}

func (s Settings) graceProblem() string {
	if s.GracePeriod < 0 || s.GracePeriod > MaxGracePeriod || !wholeSeconds(s.GracePeriod) {
		return "grace_period_secs must be 0 to 31622400 whole seconds (366 days)"
	}
	return ""
}

func wholeSeconds(d time.Duration) bool { return d%time.Second == 0 }

func (s Settings) descriptionProblem() string {
	switch {
	case len(s.Description) > MaxDescriptionBytes:
		return "description must be at most 1024 bytes long"
	case !utf8.ValidString(s.Description) || strings.ContainsFunc(s.Description, notGraphic):
		return "description must be printable UTF-8 text on one line"
	}
	return ""
}

// notGraphic is true of what can't be shown as it is: control characters, line breaks, and the invisible
// formatting characters that let text pass for other text.
func notGraphic(r rune) bool { return !unicode.IsGraphic(r) }

func (s Settings) metadataProblem() string {
	if len(s.CustomMetadata) > MaxMetadataKeys {
		return "custom_metadata must have at most 64 keys"
	}
	// In order, so that the same input always gives the same message.
	for _, key := range slices.Sorted(maps.Keys(s.CustomMetadata)) {
		value := s.CustomMetadata[key]
		switch {
		case len(key) < 1 || len(key) > MaxMetadataKeyBytes:
			return "custom_metadata keys must be 1 to 128 bytes long"
		case !utf8.ValidString(key) || strings.ContainsFunc(key, unicode.IsControl):
			return "custom_metadata keys must be UTF-8 text without control characters"
		case len(value) > MaxMetadataValueBytes:
			return "custom_metadata values must be at most 512 bytes long"
		case !utf8.ValidString(value) || strings.IndexByte(value, 0) >= 0:
			return "custom_metadata values must be UTF-8 text without NUL"
		}
	}
	return ""
}
