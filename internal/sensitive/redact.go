package sensitive

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what stands in for the content wherever a Bytes is printed, logged or marshaled.
const Redacted = "[redacted]"

var (
	errGob    = errors.New("sensitive: plaintext and keys are not encoded with gob")
	errDriver = errors.New("sensitive: plaintext and keys are not database parameters")
)

// String returns [Redacted].
func (s Bytes) String() string { return Redacted }

// GoString returns [Redacted].
func (s Bytes) GoString() string { return Redacted }

// Format writes [Redacted] whatever the verb, flags, width and precision: %x and %q would otherwise reach the content.
func (s Bytes) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue returns [Redacted].
func (s Bytes) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalJSON returns [Redacted] as a JSON string. Answers that disclose a value on purpose take it through Reveal.
func (s Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// MarshalText returns [Redacted]; XML, YAML and other text encoders use it.
func (s Bytes) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// GobEncode always fails: gob is for machines, and one that decoded "[redacted]" as a key would go on with it.
func (s Bytes) GobEncode() ([]byte, error) { return nil, errGob }

// Value always fails: as a database parameter, "[redacted]" would be stored in the place of what was meant (I1).
func (s Bytes) Value() (driver.Value, error) { return nil, errDriver }
