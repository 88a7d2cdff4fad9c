package fault

// Kind is one of a closed set. The zero value is Internal, so that an error that was given no kind discloses nothing.
type Kind uint8

// The kinds, with the HTTP status that each is answered with.
const (
	Internal           Kind = iota // 500: our failure; the caller learns nothing more
	Invalid                        // 400: the request itself is wrong
	Unauthenticated                // 401: no token, or not a valid one, where one is needed
	Denied                         // 403: not allowed, whether or not the thing exists
	NotFound                       // 404
	MethodNotAllowed               // 405
	Conflict                       // 409: the state of things forbids it
	PreconditionFailed             // 412: If-Match named another version
	TooLarge                       // 413
	UnsupportedMedia               // 415
	Throttled                      // 429: later, see RetryAfter
	Unavailable                    // 503: something that we need is down; try again

	kindCount = iota
)

type description struct{ name, code, message string }

// descriptions is indexed by Kind. Names and codes are stable: logs, metrics and clients rely on them.
var descriptions = [kindCount]description{
	Internal:           {"internal", "internal", "internal error"},
	Invalid:            {"invalid", "invalid_request", "the request is invalid"},
	Unauthenticated:    {"unauthenticated", "unauthenticated", "a valid token is required"},
	Denied:             {"denied", "forbidden", "not allowed"},
	NotFound:           {"not_found", "not_found", "not found"},
	MethodNotAllowed:   {"method_not_allowed", "method_not_allowed", "method not allowed"},
	Conflict:           {"conflict", "conflict", "the request conflicts with the current state"},
	PreconditionFailed: {"precondition_failed", "precondition_failed", "a precondition of the request does not hold"},
	TooLarge:           {"too_large", "too_large", "the request is too large"},
	UnsupportedMedia:   {"unsupported_media_type", "unsupported_media_type", "the content type is not supported"},
	Throttled:          {"throttled", "too_many_requests", "too many requests; try again later"},
	Unavailable:        {"unavailable", "unavailable", "temporarily unavailable; try again later"},
}

// String returns the kind's stable name. A value outside the set is "internal".
func (k Kind) String() string { return descriptions[k.known()].name }

func (k Kind) code() string { return descriptions[k.known()].code }

func (k Kind) message() string { return descriptions[k.known()].message }

func (k Kind) orMessage(m string) string {
	if m == "" {
		return k.message()
	}
	return m
}

// known maps what is outside the set to Internal.
func (k Kind) known() Kind {
	if k >= kindCount {
		return Internal
	}
	return k
}
