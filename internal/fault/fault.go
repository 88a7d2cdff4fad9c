// Package fault holds the closed set of error kinds and their public messages.
//
// An [Error] has two faces: what a caller may be told (kind, code, message, when to try again) and what only the
// server's log may hold (the cause). [Public] gives the first, Error() both.
//
// Invariants:
//   - I11: [Public] never gives anything of a cause, and for internal and unavailable errors gives one fixed message and
//     code each, whatever the error carries.
//   - I4: an error of unknown origin is internal. Nothing unknown is ever reported as the caller's mistake or as success.
package fault

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Error is a failure of one kind. The zero value is an internal error without a cause.
type Error struct {
	// Kind decides the status and how the error is treated.
	Kind Kind
	// Code is a stable, public identifier of lower-case letters and underscores; empty means the kind's own.
	Code string
	// Message is public: one sentence that the caller can act on; empty means the kind's generic one. It never holds
	// a value, key, token or detail of a cause.
	Message string
	// RetryAfter is public: how long a caller should wait before trying again; zero means nothing is known.
	RetryAfter time.Duration
	// Cause is for the server's log alone and may be nil.
	Cause error `json:"-"`
}

// New returns an error of the given kind. An empty message means the kind's generic one.
func New(kind Kind, message string) *Error { return &Error{Kind: kind, Message: message} }

// Newf is New with a formatted message, which is public: format nothing into it that the caller may not see.
func Newf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns an error of the given kind with a cause for the log. An empty message means the kind's generic one.
func Wrap(kind Kind, cause error, message string) *Error {
	return &Error{Kind: kind, Message: message, Cause: cause}
}

// WithCode returns a copy that carries code in place of the kind's own.
func (e *Error) WithCode(code string) *Error {
	c := *e
	c.Code = code
	return &c
}

// Error returns kind, message and cause, for the server's log. Use [Public] for anything that leaves the process.
func (e *Error) Error() string {
	if e == nil {
		e = &Error{}
	}
	text := e.Kind.String() + ": " + e.Kind.orMessage(e.Message)
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.Cause
}

// KindOf returns the kind of the outermost *Error in err's tree. Without one, a cancelled context or a passed deadline
// is Unavailable and anything else Internal. A nil error is not to be asked; should it be, it is Internal, not success.
func KindOf(err error) Kind {
	if e := find(err); e != nil {
		return e.Kind.known()
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Unavailable
	}
	return Internal
}

// Public returns what a caller may be told of err. For Internal and Unavailable, code and message are always the
// kind's own (I11).
func Public(err error) (kind Kind, code, message string, retryAfter time.Duration) {
	kind = KindOf(err)
	e := find(err)
	if e == nil {
		return kind, kind.code(), kind.message(), 0
	}
	if kind == Internal || kind == Unavailable {
		return kind, kind.code(), kind.message(), e.RetryAfter
	}
	code = e.Code
	if code == "" {
		code = kind.code()
	}
	return kind, code, kind.orMessage(e.Message), e.RetryAfter
}

// Message returns the message that [Public] gives of err.
func Message(err error) string {
	_, _, message, _ := Public(err)
	return message
}

// find returns the outermost *Error in err's tree, or nil.
func find(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e // nil for a nil *Error in an error, which then counts as unknown.
	}
	return nil
}
