package httpapi

import (
	"crypto/rand"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"sync"
)

const maxRequestID = 64

// requestID gives the client's own X-Request-Id if there is exactly one, of 1 to 64 bytes of [A-Za-z0-9._-], and a new
// random one otherwise. It goes into logs, audit records and headers, where other text could pass for something else.
func requestID(h http.Header) string {
	if lines := h[xRequestID]; len(lines) == 1 && isRequestID(lines[0]) {
		return lines[0]
	}
	return newRequestID()
}

// generators make request ids. Each is a strong generator of its own, seeded by the system, which to ask for every id
// would take ten times as long. Nothing rests on ids being secret or unique: a client may send any.
var generators = sync.Pool{New: func() any {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // it never fails: the program would have ended
	return mathrand.NewChaCha8(seed)
}}

// newRequestID gives 128 random bits as 26 letters and digits.
func newRequestID() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	g := generators.Get().(*mathrand.ChaCha8)
	halves := [2]uint64{g.Uint64(), g.Uint64()}
	generators.Put(g)
	var id [26]byte
	for i := range id {
		half := &halves[i/13]
		id[i] = alphabet[*half%32]
		*half /= 32
	}
	return string(id[:])
}

func isRequestID(s string) bool {
	if s == "" || len(s) > maxRequestID {
		return false
	}
	return strings.IndexFunc(s, notIDRune) < 0
}

func notIDRune(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_', r == '-':
		return false
	}
	return true
}

// The form of a traceparent header: version, trace id, parent id and flags in lower-case hexadecimal (W3C Trace Context,
// section 3.2.2).
const (
	traceparentForm = "00-11111111111111111111111111111111-1111111111111111-11"
	traceIDFrom     = 3
	traceIDTo       = traceIDFrom + 32
	parentIDFrom    = traceIDTo + 1
	parentIDTo      = parentIDFrom + 16
)

// traceID gives the trace id of the client's traceparent, 32 hexadecimal digits, or "" if there is none that is valid.
func traceID(h http.Header) string {
	lines := h[traceparent]
	if len(lines) != 1 {
		return ""
	}
	s := lines[0]
	if len(s) < len(traceparentForm) {
		return ""
	}
	for i := range len(traceparentForm) {
		if isDash := s[i] == '-'; isDash != (traceparentForm[i] == '-') || !isDash && !isLowerHex(s[i]) {
			return ""
		}
	}
	// Later versions may add fields behind a dash, version 00 none; ff is no version.
	switch longer := len(s) > len(traceparentForm); {
	case s[:2] == "ff", longer && s[:2] == "00", longer && s[len(traceparentForm)] != '-':
		return ""
	case isZeros(s[traceIDFrom:traceIDTo]), isZeros(s[parentIDFrom:parentIDTo]):
		return ""
	}
	return s[traceIDFrom:traceIDTo]
}

func isLowerHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }

func isZeros(s string) bool { return strings.Trim(s, "0") == "" }
