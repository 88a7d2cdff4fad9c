package webhook

import (
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// What Verify refuses. None of these repeats anything of the request.
var (
	errKeys      = errors.New("webhook: give at least one key, each of at least 32 bytes")
	errTolerance = errors.New("webhook: give a tolerance of more than nothing, such as five minutes")
	errHeaders   = errors.New("webhook: " + HeaderEventID + ", " + HeaderTimestamp + " and " + HeaderSignature + " aren't there once each, as they are sent")
	errSignature = errors.New("webhook: the request isn't signed by any of the keys")
	errTimestamp = errors.New("webhook: the request was signed too long ago, or by a clock that is ahead")
)

const (
	maxSignatureHeader = 1024 // bytes; one signature takes 67
	maxTimestamp       = 12   // digits, which lead beyond the year 33,000
)

// Verify does what a receiver does before it believes a request: it looks for a signature of one of the keys over the request's own
// timestamp, event id and body, and refuses a timestamp that is more than tolerance away from now. It gives the event's id, by which
// the receiver drops what it has seen: within the tolerance, a copy of a request is as good as the request.
//
// Signatures are compared in constant time, and every one with every key, whichever matches. Those of schemes other than v1 are
// passed over.
func Verify(header http.Header, body []byte, keys [][]byte, now time.Time, tolerance time.Duration) (eventID string, err error) {
	if len(keys) == 0 {
		return "", errKeys
	}
	for _, key := range keys {
		if len(key) < minKey { // anybody can sign with an empty one
			return "", errKeys
		}
	}
	if tolerance <= 0 {
		return "", errTolerance
	}
	event, okEvent := only(header, HeaderEventID)
	timestamp, okTimestamp := only(header, HeaderTimestamp)
	signatures, okSignatures := only(header, HeaderSignature)
	if !okEvent || !okTimestamp || !okSignatures || len(signatures) > maxSignatureHeader {
		return "", errHeaders
	}
	if id, err := uuid.Parse(event); err != nil || id.String() != event {
		return "", errHeaders
	}
	seconds, err := strconv.ParseUint(timestamp, 10, 63)
	if err != nil || len(timestamp) > maxTimestamp || strconv.FormatUint(seconds, 10) != timestamp {
		return "", errHeaders
	}
	if !isSigned(signatures, signed(timestamp, event), body, keys) {
		return "", errSignature
	}
	at := time.Unix(int64(seconds), 0)
	if age := now.Sub(at); age > tolerance || age < -tolerance {
		return "", errTimestamp
	}
	return event, nil
}

// only gives the value of a header that is there once.
func only(header http.Header, name string) (string, bool) {
	values := header.Values(name)
	if len(values) != 1 {
		return "", false
	}
	return values[0], true
}

func isSigned(signatures string, prefix, body []byte, keys [][]byte) bool {
	found := false
	for _, key := range keys {
		want := sum(key, prefix, body)
		for entry := range strings.SplitSeq(signatures, ",") {
			digits, ok := strings.CutPrefix(strings.Trim(entry, " \t"), scheme+"=")
			if !ok {
				continue
			}
			got, err := hex.DecodeString(digits)
			if err == nil && hmac.Equal(got, want[:]) {
				found = true // and on, so that the time doesn't tell which it was
			}
		}
	}
	return found
}
