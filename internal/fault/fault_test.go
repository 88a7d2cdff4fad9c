package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestKind_NamesAndCodesAreStable(t *testing.T) {
	t.Parallel()
	want := []struct {
		kind       Kind
		name, code string
	}{
		{Internal, "internal", "internal"},
		{Invalid, "invalid", "invalid_request"},
		{Unauthenticated, "unauthenticated", "unauthenticated"},
		{Denied, "denied", "forbidden"},
		{NotFound, "not_found", "not_found"},
		{MethodNotAllowed, "method_not_allowed", "method_not_allowed"},
		{Conflict, "conflict", "conflict"},
		{PreconditionFailed, "precondition_failed", "precondition_failed"},
		{TooLarge, "too_large", "too_large"},
		{UnsupportedMedia, "unsupported_media_type", "unsupported_media_type"},
		{Throttled, "throttled", "too_many_requests"},
		{Unavailable, "unavailable", "unavailable"},
	}
	if len(want) != kindCount {
		t.Fatalf("%d kinds are checked, %d exist", len(want), kindCount)
	}
	for _, w := range want {
		kind, code, message, retry := Public(New(w.kind, ""))
		if kind != w.kind || w.kind.String() != w.name || code != w.code || message == "" || retry != 0 {
			t.Errorf("%s: got kind %s, code %q, message %q, retry %s", w.name, kind, code, message, retry)
		}
	}
	var zero Kind
	if zero != Internal {
		t.Error("the zero kind is not Internal")
	}
}

func TestI11_PublicTellsNothingOfACause(t *testing.T) {
	t.Parallel()
	const detail = "pq: password authentication failed for user vault_api at 10.0.0.7"
	for kind := range Kind(kindCount) {
		err := fmt.Errorf("outer %s: %w", detail, Wrap(kind, errors.New(detail), "the public part").WithCode("special"))
		_, code, message, _ := Public(err)
		if Message(err) != message {
			t.Errorf("%s: the message is once %q and once %q", kind, Message(err), message)
		}
		if strings.Contains(code+message, "vault_api") || strings.Contains(message, "outer") {
			t.Errorf("%s: the cause shows in %q %q", kind, code, message)
		}
		fixed := kind == Internal || kind == Unavailable
		if got := message == "the public part" && code == "special"; got == fixed {
			t.Errorf("%s: public face is %q %q", kind, code, message)
		}
		if !strings.Contains(err.Error(), "vault_api") {
			t.Errorf("%s: the log lost the cause", kind)
		}
		if out, jerr := json.Marshal(Wrap(kind, errors.New(detail), "x")); jerr != nil || strings.Contains(string(out), "vault_api") {
			t.Errorf("%s: marshaling shows the cause: %s", kind, out)
		}
	}
}

func TestI11_InternalAndUnavailableSpeakOneFixedSentence(t *testing.T) {
	t.Parallel()
	for kind, want := range map[Kind]string{Internal: "internal error", Unavailable: "temporarily unavailable; try again later"} {
		for _, err := range []*Error{New(kind, "row 7 of secret payments/db failed"), Newf(kind, "dial %s", "db-1"), Wrap(kind, errors.New("x"), "")} {
			if _, code, message, _ := Public(err); message != want || code != kind.String() {
				t.Errorf("%s gives %q %q", kind, code, message)
			}
		}
	}
	if _, _, _, retry := Public(&Error{Kind: Unavailable, RetryAfter: 3 * time.Second}); retry != 3*time.Second {
		t.Error("when to try again was lost")
	}
}

func TestI4_UnknownErrorsAreInternal(t *testing.T) {
	t.Parallel()
	var typedNil *Error
	for name, err := range map[string]error{
		"nil": nil, "plain": errors.New("x"), "nil *Error in an error": typedNil, "kind outside the set": &Error{Kind: 200}, "zero": &Error{},
	} {
		kind, code, message, _ := Public(err)
		if KindOf(err) != Internal || kind != Internal || code != "internal" || message != "internal error" {
			t.Errorf("%s: %s %q %q", name, kind, code, message)
		}
	}
	if Kind(200).String() != "internal" {
		t.Error("a kind outside the set has a name of its own")
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	notFound := New(NotFound, "no such secret")
	for name, c := range map[string]struct {
		err  error
		want Kind
	}{
		"wrapped":                            {fmt.Errorf("a: %w", fmt.Errorf("b: %w", notFound)), NotFound},
		"the outermost of two decides":       {Wrap(Unavailable, notFound, ""), Unavailable},
		"cancelled":                          {fmt.Errorf("a: %w", context.Canceled), Unavailable},
		"deadline":                           {context.DeadlineExceeded, Unavailable},
		"an Error over a context keeps its":  {Wrap(Internal, context.Canceled, ""), Internal},
		"joined":                             {errors.Join(errors.New("x"), New(Conflict, "")), Conflict},
		"a copy with a code keeps its kind":  {notFound.WithCode("no_such_version"), NotFound},
		"a throttled one that says how long": {&Error{Kind: Throttled, RetryAfter: time.Second}, Throttled},
	} {
		if got := KindOf(c.err); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestError_IsAndCopies(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	e := Wrap(Conflict, cause, "moved")
	if !errors.Is(e, cause) || !errors.Is(fmt.Errorf("x: %w", e), e) {
		t.Error("errors.Is does not find the cause or the error")
	}
	c := e.WithCode("version_moved")
	if e.Code != "" || c.Code != "version_moved" || c.Message != "moved" || !errors.Is(c, cause) {
		t.Error("WithCode changed the original or lost a part")
	}
	if got, want := e.Error(), "conflict: moved: cause"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if got, want := New(Throttled, "").Error(), "throttled: too many requests; try again later"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

func TestKind_CodesAreWellFormedAndDistinct(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	names, codes := map[string]bool{}, map[string]bool{}
	for k := range Kind(kindCount) {
		if !form.MatchString(k.String()) || !form.MatchString(k.code()) || names[k.String()] || codes[k.code()] {
			t.Errorf("kind %d: name %q, code %q", k, k.String(), k.code())
		}
		names[k.String()], codes[k.code()] = true, true
	}
}
