// Package target says what a rotation asks of the system that a secret is used at, and what its refusals mean.
//
// The targets themselves are below it, one package each. They know nothing of secrets, versions or jobs: they are given a
// credential and a generation, and answer nil or an [Error].
//
// Invariants:
//   - I1: an error's text holds no credential and nothing that a target sent beyond its SQLSTATE or status. What a target
//     says is written by somebody else, and may repeat what it was given.
//   - I7: whatever is not understood is [Transient]: it may have taken effect, and the caller has to find out.
package target

import (
	"errors"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Class says what a refusal means for the rotation.
type Class string

const (
	// Transient: it may work later, and it may have worked. The caller tries again, with a new generation.
	Transient Class = "transient"
	// Authentication: the credential that was used is refused.
	Authentication Class = "authentication"
	// Policy: the target won't have this value. Another one may do.
	Policy Class = "policy"
	// Permanent: it won't work until somebody changes something at the target or in its settings.
	Permanent Class = "permanent"
	// Outdated: the target has seen a generation as new or newer, so this worker is late.
	Outdated Class = "outdated"
)

// Error is a refusal.
type Error struct {
	Class Class
	// Message is for operators and is shown. It says what to do where something can be done, and holds no secret, no value,
	// and nothing that the target sent beyond its SQLSTATE or status.
	Message string
	// Err is the cause, for errors.Is and errors.As alone: it may hold what the target sent, and is never part of the text.
	Err error
}

// Error returns class and message. The cause is left out: see [Error.Err].
func (e *Error) Error() string { return string(e.Class) + ": " + e.Message }

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of the outermost *Error in err's tree. Anything unknown is Transient, as is an *Error of no
// class: nothing unknown is ever taken for a verdict.
func ClassOf(err error) Class {
	var e *Error
	if !errors.As(err, &e) || e == nil {
		return Transient
	}
	switch e.Class {
	case Authentication, Policy, Permanent, Outdated:
		return e.Class
	default:
		return Transient
	}
}

// Credential is what is set or tried. The caller releases it.
type Credential struct {
	Username string
	Password sensitive.Bytes
}
