package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// bodyRequest makes a request with a body of the announced length; -1 is chunked.
func bodyRequest(body io.Reader, length int64, header ...string) *http.Request {
	r := request("POST", "/", "", header...)
	r.Body = io.NopCloser(body)
	r.ContentLength = length
	return r
}

func TestReadBody(t *testing.T) {
	t.Parallel()
	const media = "Content-Type"
	full := strings.Repeat("x", maxBody)
	for name, c := range map[string]struct {
		body   string
		length int64
		rule   bodyRule
		header []string
		want   error
	}{
		"a body":                         {"{}", 2, bodyRequired, []string{media, "application/json"}, nil},
		"with a charset":                 {"{}", 2, bodyRequired, []string{media, "application/json; charset=utf-8"}, nil},
		"with a charset in capitals":     {"{}", 2, bodyRequired, []string{media, `Application/JSON;charset="UTF-8"`}, nil},
		"chunked":                        {"{}", -1, bodyRequired, []string{media, "application/json"}, nil},
		"none where one is optional":     {"", 0, bodyOptional, nil, nil},
		"chunked none where optional":    {"", -1, bodyOptional, nil, nil},
		"none where there must be none":  {"", 0, bodyNone, nil, nil},
		"none where one is required":     {"", 0, bodyRequired, nil, errBodyRequired},
		"chunked none where required":    {"", -1, bodyRequired, nil, errBodyRequired},
		"one where there must be none":   {"{}", 2, bodyNone, []string{media, "application/json"}, errNoBody},
		"chunked where there must none":  {"", -1, bodyNone, nil, errNoBody},
		"no media type":                  {"{}", 2, bodyOptional, nil, errMediaType},
		"chunked without a media type":   {"{}", -1, bodyOptional, nil, errMediaType},
		"a form":                         {"{}", 2, bodyRequired, []string{media, "application/x-www-form-urlencoded"}, errMediaType},
		"text":                           {"{}", 2, bodyRequired, []string{media, "text/json"}, errMediaType},
		"another JSON":                   {"{}", 2, bodyRequired, []string{media, "application/problem+json"}, errMediaType},
		"another charset":                {"{}", 2, bodyRequired, []string{media, "application/json; charset=latin1"}, errMediaType},
		"another parameter":              {"{}", 2, bodyRequired, []string{media, "application/json; version=2"}, errMediaType},
		"a broken media type":            {"{}", 2, bodyRequired, []string{media, "application/json; ="}, errMediaType},
		"two media types":                {"{}", 2, bodyRequired, []string{media, "application/json", media, "text/plain"}, errMediaType},
		"compressed":                     {"{}", 2, bodyRequired, []string{media, "application/json", "Content-Encoding", "gzip"}, errEncoding},
		"as long as may be":              {full, maxBody, bodyRequired, []string{media, "application/json"}, nil},
		"chunked as long as may be":      {full, -1, bodyRequired, []string{media, "application/json"}, nil},
		"longer":                         {full + "x", maxBody + 1, bodyRequired, []string{media, "application/json"}, errBodyTooLarge},
		"chunked longer":                 {full + "x", -1, bodyRequired, []string{media, "application/json"}, errBodyTooLarge},
		"chunked longer, any media type": {full + "x", -1, bodyRequired, nil, errBodyTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readBody(nil, bodyRequest(strings.NewReader(c.body), c.length, c.header...), c.rule)
			if !errors.Is(err, c.want) {
				t.Fatalf("%v; want %v", err, c.want)
			}
			if c.want == nil && string(got) != c.body {
				t.Errorf("%d bytes of %d", len(got), len(c.body))
			}
			if c.want != nil && got != nil {
				t.Error("a body beside an error")
			}
		})
	}
}

func TestLongBodiesAreRefusedUnread(t *testing.T) {
	t.Parallel()
	unread := iotest.ErrReader(errors.New("it was read"))
	_, err := readBody(nil, bodyRequest(unread, maxBody+1, "Content-Type", "application/json"), bodyRequired)
	if !errors.Is(err, errBodyTooLarge) {
		t.Error(err)
	}
	_, err = readBody(nil, bodyRequest(unread, 1<<62, "Content-Type", "application/json"), bodyRequired)
	if !errors.Is(err, errBodyTooLarge) {
		t.Error(err)
	}
}

// spy hands out a body in pieces, and remembers the buffers that it was given.
type spy struct {
	from    io.Reader
	piece   int
	end     error
	buffers [][]byte
}

func (s *spy) Read(p []byte) (int, error) {
	s.buffers = append(s.buffers, p)
	n, err := s.from.Read(p[:min(len(p), s.piece)])
	if errors.Is(err, io.EOF) && s.end != nil {
		err = s.end
	}
	return n, err
}

func TestI1_BuffersThatABodyOutgrowsAreZeroed(t *testing.T) {
	t.Parallel()
	s := &spy{from: strings.NewReader(strings.Repeat("secret", 5000)), piece: 1000}
	body, err := readAll(nil, s)
	if err != nil || string(body) != strings.Repeat("secret", 5000) {
		t.Fatal(err, len(body))
	}
	clear(body)
	for i, b := range s.buffers {
		if slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
			t.Fatalf("buffer %d of %d still holds a part of the body", i, len(s.buffers))
		}
	}
}

func TestI1_ABodyThatBreaksOffIsZeroed(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]error{
		"cut short": io.ErrUnexpectedEOF, "too slow": os.ErrDeadlineExceeded, "badly framed": errors.New("malformed chunk"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &spy{from: strings.NewReader("secret"), piece: 3, end: end}
			body, err := readAll(nil, s)
			if fault.KindOf(err) != fault.Invalid || body != nil {
				t.Fatal(err, body)
			}
			if bytes.Contains(s.buffers[0], []byte("s")) {
				t.Error("the part that came was left")
			}
		})
	}
}

func TestI1_TheBodyIsZeroedOnceItsHandlerHasReturned(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	var kept []byte
	e.route(route{method: "POST", pattern: "/v1/kept", body: bodyRequired}, func(_ context.Context, x *exchange) error {
		kept = x.body
		if string(kept) != `{"a":"secret"}` {
			t.Errorf("%q", kept)
		}
		return x.empty()
	})
	if w := e.do(request("POST", "/v1/kept", `{"a":"secret"}`)); w.Code != 204 {
		t.Fatal(w.Code)
	}
	if slices.ContainsFunc(kept, func(c byte) bool { return c != 0 }) {
		t.Errorf("%q", kept)
	}
	e.route(route{method: "POST", pattern: "/v1/panics", body: bodyRequired}, func(_ context.Context, x *exchange) error {
		kept = x.body
		panic("oh")
	})
	if w := e.do(request("POST", "/v1/panics", `{"a":"secret"}`)); w.Code != 500 {
		t.Fatal(w.Code)
	}
	if slices.ContainsFunc(kept, func(c byte) bool { return c != 0 }) {
		t.Errorf("after a panic: %q", kept)
	}
}
