package webhook

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/target"
)

// The steps of a rotation that a receiver is told of.
const (
	StepApply = "apply" // put the value to use
	StepTest  = "test"  // tell whether the value works
)

// Event is one step of a rotation, as it is told to the receiver. An apply holds either Fetch or Value; a test neither, for the receiver has
// the value already.
type Event struct {
	ID         uuid.UUID // the same when it is sent again: receivers drop repetitions by it
	Step       string    // StepApply or StepTest
	SecretID   uuid.UUID
	Secret     string // the secret's name
	Version    int64
	Generation int64 // grows with each attempt: receivers refuse an older one

	Fetch    *Fetch          // where the receiver gets the value, once
	Value    sensitive.Bytes // the value or password itself
	Username string          // of a userpass secret, whose Value is its password; empty for others
	Binary   bool            // Value isn't text, and goes as base64
}

// Fetch is where a value can be had, once.
type Fetch struct {
	URL       string
	Token     sensitive.Bytes
	ExpiresAt time.Time
}

const timeFormat = "2006-01-02T15:04:05.000000Z" // as the API has it, in UTC

// encode gives the body. The caller releases it.
func (e *Event) encode() (sensitive.Bytes, error) {
	if problem := e.problem(); problem != "" {
		return sensitive.Bytes{}, &target.Error{Class: target.Permanent, Message: problem}
	}
	// It never grows, which would leave a copy behind.
	buf := make([]byte, 0, e.size())
	sensitive.Do(func() { buf = e.append(buf) })
	return sensitive.Take(buf), nil
}

// problem says what is wrong with the event, or "".
func (e *Event) problem() string {
	switch {
	case e.ID == uuid.Nil || (e.Step != StepApply && e.Step != StepTest):
		return "an event has an id, and its step is apply or test"
	case e.Step == StepTest && (e.Fetch != nil || !e.Value.IsZero()):
		return "a test tells nothing of the value: the receiver has it"
	case e.Step == StepApply && (e.Fetch == nil) == e.Value.IsZero():
		return "an event tells either the value or where to fetch it"
	case e.Value.IsZero() && (e.Username != "" || e.Binary):
		return "an event without the value has nothing else of it"
	case e.Fetch != nil && e.Fetch.Token.Len() == 0:
		return "an event that tells where to fetch the value has a token for that"
	case e.Username != "" && e.Binary:
		return "an event's password is text"
	case !e.Binary && !utf8.Valid(e.Value.Reveal()):
		return "the value isn't UTF-8, and isn't marked as binary"
	case !utf8.ValidString(e.Secret) || !utf8.ValidString(e.Username) ||
		(e.Fetch != nil && (!utf8.ValidString(e.Fetch.URL) || !utf8.Valid(e.Fetch.Token.Reveal()))):
		return "an event's text is UTF-8"
	}
	return ""
}

// size gives how long the body is at most, in whole pieces.
func (e *Event) size() int {
	const rest = 512 // more than the names of all members, ids, numbers and times
	n := rest + quotedLen(e.Secret) + quotedLen(e.Username)
	switch {
	case e.Fetch != nil:
		n += quotedLen(e.Fetch.URL) + quotedLen(e.Fetch.Token.Reveal())
	case e.Binary:
		n += base64.StdEncoding.EncodedLen(e.Value.Len())
	default:
		n += quotedLen(e.Value.Reveal())
	}
	return (n + piece - 1) / piece * piece
}

// quotedLen gives how long s is at most as a JSON string: control characters take up to six bytes, quotes and backslashes two.
func quotedLen[T []byte | string](s T) int {
	n := len(s) + 2
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ':
			n += 5
		case c == '"', c == '\\':
			n++
		}
	}
	return n
}

func (e *Event) append(b []byte) []byte {
	b = append(b, `{"event_id":"`...)
	b = append(b, e.ID.String()...)
	b = append(b, `","step":"`...)
	b = append(b, e.Step...)
	b = append(b, `","secret":`...)
	b = quote(b, e.Secret)
	// What comes last stays in the buffer of the hash that is computed over it, so the value doesn't.
	b = e.appendMaterial(b)
	b = append(b, `,"secret_id":"`...)
	b = append(b, e.SecretID.String()...)
	b = append(b, `","version":`...)
	b = strconv.AppendInt(b, e.Version, 10)
	b = append(b, `,"generation":`...)
	b = strconv.AppendInt(b, e.Generation, 10)
	for len(b)%piece != piece-1 {
		b = append(b, ' ')
	}
	return append(b, '}')
}

func (e *Event) appendMaterial(b []byte) []byte {
	switch {
	case e.Step == StepTest:
		return b
	case e.Fetch != nil:
		b = append(b, `,"fetch":{"url":`...)
		b = quote(b, e.Fetch.URL)
		b = append(b, `,"token":`...)
		b = quote(b, e.Fetch.Token.Reveal())
		b = append(b, `,"expires_at":"`...)
		b = e.Fetch.ExpiresAt.UTC().AppendFormat(b, timeFormat)
		return append(b, `"}`...)
	case e.Username != "":
		b = append(b, `,"username":`...)
		b = quote(b, e.Username)
		b = append(b, `,"password":`...)
		return quote(b, e.Value.Reveal())
	case e.Binary:
		b = append(b, `,"value_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, e.Value.Reveal())
		return append(b, '"')
	}
	b = append(b, `,"value":`...)
	return quote(b, e.Value.Reveal())
}

// quote appends a JSON string. Its error is about UTF-8 alone, which problem has looked at.
func quote[T []byte | string](b []byte, s T) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}
