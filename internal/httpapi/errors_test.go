package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// everyKind maps every kind of error to its status. A kind that is added and not listed fails TestEveryKindIsListed.
var everyKind = map[fault.Kind]int{
	fault.Internal:           500,
	fault.Invalid:            400,
	fault.Unauthenticated:    401,
	fault.Denied:             403,
	fault.NotFound:           404,
	fault.MethodNotAllowed:   405,
	fault.Conflict:           409,
	fault.PreconditionFailed: 412,
	fault.TooLarge:           413,
	fault.UnsupportedMedia:   415,
	fault.Throttled:          429,
	fault.Unavailable:        503,
}

func TestEveryKindIsListed(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for k := range everyKind {
		names[k.String()] = true
	}
	for k := range 256 {
		if name := fault.Kind(k).String(); !names[name] {
			t.Errorf("kind %s has no status here", name)
		}
	}
}

func TestI11_ErrorsSayTheirPublicFaceAlone(t *testing.T) {
	t.Parallel()
	const inside = "the cause, which is nobody's business"
	for kind, status := range everyKind {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			e := newEdge(t)
			e.route(route{method: "GET", pattern: "/v1/failing"}, func(context.Context, *exchange) error {
				return fmt.Errorf("while doing it: %w", fault.Wrap(kind, errors.New(inside), "do it otherwise"))
			})
			w := e.do(request("GET", "/v1/failing", "", "X-Request-Id", "mine"))
			got := wantError(t, w, status)
			if strings.Contains(w.Body.String(), inside) || strings.Contains(w.Body.String(), "while doing it") {
				t.Errorf("the cause is told: %s", w.Body)
			}
			generic := kind == fault.Internal || kind == fault.Unavailable
			if told := got.Error == "do it otherwise"; told == generic {
				t.Errorf("the message is %q", got.Error)
			}
			if got.RequestID != "mine" {
				t.Errorf("the request id is %q", got.RequestID)
			}
			for header, on := range map[string]fault.Kind{"WWW-Authenticate": fault.Unauthenticated, "Connection": fault.TooLarge} {
				if has := w.Header().Get(header) != ""; has != (kind == on) {
					t.Errorf("%s: %q", header, w.Header().Get(header))
				}
			}
			later := kind == fault.Unavailable || kind == fault.Throttled
			if has := w.Header().Get("Retry-After") == "1"; has != later {
				t.Errorf("Retry-After: %q", w.Header().Get("Retry-After"))
			}

			line := e.log.lines(t)[0]
			if !strings.Contains(fmt.Sprint(line["error"]), inside) {
				t.Errorf("the log line has the error %v", line["error"])
			}
			if isError := line["level"] == "ERROR"; isError != (status >= 500) {
				t.Errorf("the log line's level is %v", line["level"])
			}
			if line["code"] != got.Code || line["request_id"] != "mine" {
				t.Errorf("the log line is %v", line)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	fail := func(t *testing.T, err error) (*edge, http.Header, errorBody) {
		e := newEdge(t)
		e.route(route{method: "GET", pattern: "/v1/failing"}, func(_ context.Context, x *exchange) error {
			x.out.Header().Set("ETag", `"1"`)
			x.out.Header().Set("Location", "/v1/x")
			return err
		})
		w := e.do(request("GET", "/v1/failing", ""))
		kind := fault.KindOf(err)
		return e, w.Header(), wantError(t, w, statusOf(kind))
	}
	t.Run("an error of unknown kind is a 500", func(t *testing.T) {
		t.Parallel()
		_, _, got := fail(t, errors.New("what"))
		if got.Code != "internal" || got.Error != "internal error" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("a deadline that passed is a 503", func(t *testing.T) {
		t.Parallel()
		_, _, got := fail(t, context.DeadlineExceeded)
		if got.Code != "unavailable" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("Retry-After is rounded up", func(t *testing.T) {
		t.Parallel()
		_, h, _ := fail(t, &fault.Error{Kind: fault.Throttled, RetryAfter: 1500 * time.Millisecond})
		if h.Get("Retry-After") != "2" {
			t.Errorf("Retry-After: %s", h.Get("Retry-After"))
		}
	})
	t.Run("an error takes back what was meant for another answer", func(t *testing.T) {
		t.Parallel()
		_, h, _ := fail(t, fault.New(fault.Conflict, ""))
		if h.Get("ETag") != "" || h.Get("Location") != "" {
			t.Errorf("%v", h)
		}
	})
	t.Run("a code of its own is kept", func(t *testing.T) {
		t.Parallel()
		_, _, got := fail(t, fault.New(fault.Conflict, "so it is").WithCode("special"))
		if got.Code != "special" || got.Error != "so it is" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("text that is not UTF-8 still makes an answer", func(t *testing.T) {
		t.Parallel()
		_, _, got := fail(t, fault.New(fault.Invalid, "a\xffb\"\n"))
		if got.Error != "a\ufffdb\"\n" {
			t.Errorf("%+v", got)
		}
	})
}
