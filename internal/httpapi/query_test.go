package httpapi

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestParseQuery(t *testing.T) {
	t.Parallel()
	known := []string{"limit", "prefix"}
	got, err := parseQuery("prefix=a%2Fb&limit=5", known)
	if err != nil || got["prefix"] != "a/b" || got["limit"] != "5" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err = parseQuery("", known); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	for raw, says := range map[string]string{
		"limt=5":                             `unknown query parameter "limt": this route takes limit, prefix`,
		"limit=5&" + canary + "=" + canary:   `unknown query parameter`,
		"Limit=5":                            `unknown query parameter "Limit"`,
		"limit":                              "limit is empty",
		"limit=":                             "limit is empty",
		"limit=5&limit=6":                    "limit is given more than once",
		"limit=5&limit=5":                    "limit is given more than once",
		"limit=%zz":                          "the query can't be read",
		"limit=5;prefix=a":                   "the query can't be read",
		"=5":                                 "unknown query parameter:",
		"a%20b=5":                            "unknown query parameter:",
		strings.Repeat("x", 65) + "=1":       "unknown query parameter:",
		"%00=1":                              "unknown query parameter:",
		"limit=5&%22%3Cscript%3E=1":          "unknown query parameter:",
		"prefix=" + canary + "&nothing=here": `unknown query parameter "nothing"`,
	} {
		_, err := parseQuery(raw, known)
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v; want %q", raw, err, says)
		}
	}
	if _, err := parseQuery("a=1", nil); err == nil || !strings.Contains(err.Error(), "takes none") {
		t.Error(err)
	}
}

func TestQueryValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value string
		want  int
	}{{"1", 1}, {"1000", 1000}, {"007", 7}, {"9223372036854775807", math.MaxInt}} {
		if n, err := queryInt(map[string]string{"limit": c.value}, "limit"); err != nil || n != c.want {
			t.Errorf("%q: %d, %v", c.value, n, err)
		}
	}
	for _, bad := range []string{"0", "-1", "1.5", "1e2", "+5", " 5", "five", "0x10", "99999999999999999999", "５"} {
		if n, err := queryInt(map[string]string{"limit": bad}, "limit"); fault.KindOf(err) != fault.Invalid || n != 0 {
			t.Errorf("%q: %d, %v", bad, n, err)
		}
	}
	want := time.Date(2026, 1, 31, 10, 0, 0, 250000000, time.UTC)
	got, err := queryTime(map[string]string{"since": "2026-01-31T12:00:00.25+02:00"}, "since")
	if err != nil || !got.Equal(want) || got.Location() != time.UTC {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"yesterday", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00:00 02:00", "1969-12-31T00:00:00Z", "1769860800"} {
		if got, err := queryTime(map[string]string{"since": bad}, "since"); fault.KindOf(err) != fault.Invalid || !got.IsZero() {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

func TestListAndEventsRequests(t *testing.T) {
	t.Parallel()
	l, err := listRequest(map[string]string{"prefix": "app/", "limit": "7", "cursor": "abc"})
	if err != nil || l.Prefix != "app/" || l.Limit != 7 || l.Cursor != "abc" {
		t.Errorf("%+v, %v", l, err)
	}
	for _, bad := range []map[string]string{
		{"limit": "0"},
		{"cursor": "a b"},
		{"cursor": "a\n"},
		{"cursor": "é"},
		{"cursor": strings.Repeat("a", 1025)},
	} {
		if _, err := listRequest(bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
	e, err := eventsRequest(map[string]string{"limit": "7", "since": "2026-01-31T12:00:00Z", "until": "2026-01-31T12:00:00Z"})
	if err != nil || e.Limit != 7 || e.Since.IsZero() || !e.Since.Equal(e.Until) {
		t.Errorf("%+v, %v", e, err)
	}
	// Whether these make sense is for the vault to say.
	l, err = listRequest(map[string]string{"prefix": "/a b", "limit": "1001"})
	if err != nil || l.Prefix != "/a b" || l.Limit != 1001 {
		t.Errorf("%+v, %v", l, err)
	}
	e, err = eventsRequest(map[string]string{"limit": "1001", "since": "2026-01-31T12:00:01Z", "until": "2026-01-31T12:00:00Z"})
	if err != nil || e.Limit != 1001 || !e.Until.Before(e.Since) {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	p, err := precondition(http.Header{})
	if err != nil || p.Any || p.Tags != nil {
		t.Errorf("no header: %+v, %v", p, err)
	}
	p, err = precondition(http.Header{ifMatch: {"*"}})
	if err != nil || !p.Any {
		t.Errorf("*: %+v, %v", p, err)
	}
	p, err = precondition(http.Header{ifMatch: {`"1-a", "2-b"`, `"3-c"`}})
	if err != nil || p.Any || !slices.Equal(p.Tags, []string{`"1-a"`, `"2-b"`, `"3-c"`}) {
		t.Errorf("a list: %+v, %v", p, err)
	}
	p, err = precondition(http.Header{ifMatch: {`W/"1-a"`}})
	if err != nil || len(p.Tags) != 1 || p.Tags[0] == `"1-a"` {
		t.Errorf("a weak tag must stay, and stay weak: %+v, %v", p, err)
	}
	for _, bad := range []string{"", ",", "1-a", `"1-a`, `"1-a" "2-b"`, `*, "1-a"`} {
		if _, err := precondition(http.Header{ifMatch: {bad}}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := noneMatch(http.Header{ifNoneMatch: {bad}}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
	tags, err := noneMatch(http.Header{ifNoneMatch: {`W/"1-a", "2-b"`}})
	if err != nil || !slices.Equal(tags, []string{`"1-a"`, `"2-b"`}) {
		t.Errorf("%q, %v", tags, err)
	}
	tags, err = noneMatch(http.Header{ifNoneMatch: {"*"}})
	if err != nil || !slices.Equal(tags, []string{"*"}) {
		t.Errorf("%q, %v", tags, err)
	}
}
