// Package secret holds the rules of the domain: how secrets are named, what they hold, which of their versions
// count, and when. It promises that a value which leaves one of its Parse, Decode or Validate functions without
// an error keeps the documented limits, so that no other package needs to check them again. Everything here is
// pure: no I/O, no clock, no randomness but what the caller passes in.
//
// Invariants:
//
//	I1   Material travels in sensitive.Bytes alone; no error of this package carries any part of a value,
//	     a user name, a description or a name.
//	I4   What does not parse is refused: a state, a kind or a stored encoding that is unknown is an error or
//	     counts as invalid, never as a default.
//	I9   A superseded version is valid while now is before its expires_at and never after; one without an
//	     expires_at is never valid.
//	I12  Material is compared in constant time, all of its fields whatever the first ones said.
package secret

import (
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// MaxNameBytes is the longest name, in bytes.
const MaxNameBytes = 255

// Name is the name of a secret: 1 to 255 bytes in segments of [A-Za-z0-9._-] that are separated by single
// slashes. No segment is empty, "." or "..", and the last one is none of ReservedSegments. Names are compared
// byte by byte; case counts. Only ParseName makes one.
type Name string

// String gives the name as text.
func (n Name) String() string { return string(n) }

// reservedSegments are the words that name an operation at the end of a path, now and for good: a secret whose
// last segment was one of them could not be told from the operation on its parent.
var reservedSegments = []string{
	"rotate", "verify", "versions", "jobs", "rollback", "pause", "resume", "undelete", "explain", "metadata",
}

// ReservedSegments lists the words that the last segment of a name can't be. The slice is the caller's.
func ReservedSegments() []string { return slices.Clone(reservedSegments) }

const nameRule = "names are 1 to 255 bytes of letters, digits, '.', '_' and '-', in segments separated by '/'; "

// ParseName checks a name against the rules of Name. Errors are of kind Invalid, tell the rule that was broken,
// and never repeat the input.
func ParseName(s string) (Name, error) {
	if problem := nameProblem(s); problem != "" {
		return "", fault.New(fault.Invalid, nameRule+problem)
	}
	return Name(s), nil
}

func nameProblem(s string) string {
	if s == "" {
		return "this one is empty"
	}
	if problem := prefixProblem(s); problem != "" {
		return problem
	}
	last := s[strings.LastIndexByte(s, '/')+1:]
	if problem := segmentProblem(last); problem != "" {
		return problem
	}
	if slices.Contains(reservedSegments, last) {
		return "the last segment can't be any of " + strings.Join(reservedSegments, ", ") +
			", which name operations: choose another one"
	}
	return ""
}

// CheckPrefix checks that some name could begin with s; the empty string begins every name. The last segment may
// be cut anywhere, so "app/ro" and "app/." pass. Errors are of kind Invalid and never repeat the input.
func CheckPrefix(s string) error {
	if problem := prefixProblem(s); problem != "" {
		return fault.New(fault.Invalid, "no name begins with this prefix: "+nameRule+problem)
	}
	return nil
}

func prefixProblem(s string) string {
	if len(s) > MaxNameBytes {
		return "this one is longer"
	}
	for i := range len(s) {
		if !nameByte(s[i]) && s[i] != '/' {
			return "this one has another character"
		}
	}
	for {
		segment, rest, more := strings.Cut(s, "/")
		if !more {
			return ""
		}
		if problem := segmentProblem(segment); problem != "" {
			return problem
		}
		s = rest
	}
}

func segmentProblem(segment string) string {
	switch segment {
	case "":
		return "this one has an empty segment: remove the '/' at its beginning or end, or the second of two in a row"
	case ".", "..":
		return "a segment can't be '.' or '..'"
	}
	return ""
}

func nameByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '.' || c == '_' || c == '-'
}
