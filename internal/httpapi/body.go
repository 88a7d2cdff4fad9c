package httpapi

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"

	"github.com/sealkeep/sealkeep/internal/fault"
)

const (
	// maxBody is the longest body, in bytes. It leaves room for a value of 64 KiB with every byte escaped.
	maxBody = 1 << 20
	// firstRead is what is set aside for a body before any of it has come, whatever length was announced.
	firstRead = smallBuffer
)

var (
	errNoBody       = fault.New(fault.Invalid, "this request has no body: leave it out")
	errBodyRequired = fault.New(fault.Invalid, "a body is required: a JSON object, with Content-Type: application/json")
	errBodyTooLarge = fault.New(fault.TooLarge, "the body is longer than 1048576 bytes")
	errBodyCutShort = fault.New(fault.Invalid, "the body did not arrive as a whole")
	errMediaType    = fault.New(fault.UnsupportedMedia, "send the body as JSON in UTF-8, with Content-Type: application/json")
	errEncoding     = fault.New(fault.UnsupportedMedia, "send the body without Content-Encoding")
)

// readBody reads a request's body as the rule says into one of b's buffers, to which the caller gives it back.
func readBody(b *buffers, r *http.Request, rule bodyRule) ([]byte, error) {
	switch {
	case r.ContentLength == 0 && rule == bodyRequired:
		return nil, errBodyRequired
	case r.ContentLength == 0:
		return nil, nil
	case rule == bodyNone:
		return nil, errNoBody
	case r.ContentLength > maxBody: // before any of it is read
		return nil, errBodyTooLarge
	case r.ContentLength > 0: // otherwise there may turn out to be none
		if err := checkMediaType(r.Header); err != nil {
			return nil, err
		}
	}
	body, err := readAll(b, r.Body)
	if err != nil {
		return nil, err
	}
	if len(body) == 0 {
		b.put(body)
		if rule == bodyRequired {
			return nil, errBodyRequired
		}
		return nil, nil
	}
	if err := checkMediaType(r.Header); err != nil {
		b.put(body)
		return nil, err
	}
	return body, nil
}

// readAll reads at most maxBody bytes. Every buffer that it outgrows is zeroed.
func readAll(b *buffers, r io.Reader) ([]byte, error) {
	body := b.get(firstRead)
	for {
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > maxBody:
			b.put(body)
			return nil, errBodyTooLarge
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			b.put(body)
			return nil, bodyError(err)
		case len(body) == cap(body):
			// One byte more than the limit is room enough to see that it is exceeded.
			larger := append(b.get(min(2*cap(body), maxBody+1)), body...)
			b.put(body)
			body = larger
		}
	}
}

// bodyError tells a body that broke off, or isn't framed as announced, which are the client's, from one that was too
// slow for the server's read timeout, after which the connection is of no more use.
func bodyError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fault.New(fault.Invalid, "the body did not arrive in time")
	}
	return errBodyCutShort
}

func checkMediaType(h http.Header) error {
	if len(h[contentEncoding]) > 0 && h[contentEncoding][0] != "" {
		return errEncoding
	}
	lines := h[contentType]
	if len(lines) != 1 {
		return errMediaType
	}
	if lines[0] == jsonOnly[0] {
		return nil
	}
	media, params, err := mime.ParseMediaType(lines[0])
	if err != nil || media != "application/json" {
		return errMediaType
	}
	for name, value := range params {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return errMediaType
		}
	}
	return nil
}
