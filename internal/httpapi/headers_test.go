package httpapi

import (
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"
)

func TestHeaderNamesAreCanonical(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		authorization, cacheControl, contentEncoding, contentLength, contentType, date, etag, ifMatch, ifNoneMatch, location,
		traceparent, xContentTypeOptions, xForwardedFor, xRequestID,
	} {
		if canonical := http.CanonicalHeaderKey(name); name != canonical {
			t.Errorf("%s is not found by %s", name, canonical)
		}
	}
}

func TestHeadersAreSetToOneValue(t *testing.T) {
	t.Parallel()
	var x exchange
	h := http.Header{}
	for i := range 10 {
		x.set(h, "H"+strconv.Itoa(i), strconv.Itoa(i))
	}
	h.Add("H0", "another") // has to leave its neighbour alone
	for i := range 10 {
		if got := h.Get("H" + strconv.Itoa(i)); got != strconv.Itoa(i) {
			t.Errorf("header %d is %q", i, got)
		}
	}
}

// TestSharedHeaderValuesAreNobodysToChange does with an answer's headers what writers and middleware do.
func TestSharedHeaderValuesAreNobodysToChange(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for range 2 {
		h := e.do(request("GET", "/healthz", "")).Header()
		for name, want := range map[string]string{"Cache-Control": "no-store", "Content-Type": "application/json", "X-Content-Type-Options": "nosniff"} {
			if got := h.Values(name); !slices.Equal(got, []string{want}) {
				t.Errorf("%s is %q", name, got)
			}
			h.Add(name, "more")
			h.Set(name, "other")
		}
	}
}

func TestTheDateIsThatOfTheSecond(t *testing.T) {
	t.Parallel()
	var d dates
	at := time.Date(2026, 2, 3, 4, 5, 6, 999_000_000, time.FixedZone("", 3600))
	for range 2 {
		if got := d.at(at); !slices.Equal(got, []string{"Tue, 03 Feb 2026 03:05:06 GMT"}) {
			t.Errorf("the date is %q", got)
		}
	}
	if got := d.at(at.Add(time.Millisecond)); !slices.Equal(got, []string{"Tue, 03 Feb 2026 03:05:07 GMT"}) {
		t.Errorf("a second later it is %q", got)
	}
}
