package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// statusOf is the one mapping from kinds of error to statuses.
func statusOf(k fault.Kind) int {
	switch k {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Denied:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case fault.Conflict:
		return http.StatusConflict
	case fault.PreconditionFailed:
		return http.StatusPreconditionFailed
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.UnsupportedMedia:
		return http.StatusUnsupportedMediaType
	case fault.Throttled:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.Internal:
	}
	return http.StatusInternalServerError
}

// fail answers with err's public face, unless an answer has begun, and keeps err for the log.
func (x *exchange) fail(err error) {
	kind, code, message, retryAfter := fault.Public(err)
	x.err, x.code = err, code
	if x.status != 0 {
		return
	}
	h := x.out.Header()
	// What a handler may have set for the answer that it then couldn't give.
	delete(h, etag)
	delete(h, location)
	switch kind {
	case fault.Unauthenticated:
		h.Set("WWW-Authenticate", "Bearer")
	case fault.Unavailable:
		h.Set("Retry-After", seconds(max(retryAfter, time.Second)))
	case fault.Conflict:
		if retryAfter > 0 {
			h.Set("Retry-After", seconds(retryAfter))
		}
	case fault.Throttled:
		h.Set("Retry-After", seconds(max(retryAfter, time.Second)))
	case fault.TooLarge:
		// The rest of the body was not read, and is not going to be.
		h.Set("Connection", "close")
	default:
	}
	body := appendMember([]byte{'{'}, "error", message)
	body = appendMember(append(body, ','), "code", code)
	body = appendMember(append(body, ','), "request_id", x.id)
	x.write(statusOf(kind), append(body, '}'))
}

// appendMember appends "name":"value". Invalid UTF-8 in value becomes U+FFFD.
func appendMember(dst []byte, name, value string) []byte {
	dst, _ = jsontext.AppendQuote(dst, name)
	dst, _ = jsontext.AppendQuote(append(dst, ':'), value)
	return dst
}

// seconds gives d as Retry-After has it, rounded up so that nobody comes back too early.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
