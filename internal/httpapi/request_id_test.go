package httpapi

import (
	"net/http"
	"strings"
	"testing"
)

func TestRequestID(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 64)
	for _, ours := range []string{"a", "deploy-4711", "A.b_c-9", long} {
		if got := requestID(http.Header{"X-Request-Id": {ours}}); got != ours {
			t.Errorf("%q is taken as %q", ours, got)
		}
	}
	for _, lines := range [][]string{
		nil, {""}, {long + "a"}, {"a b"}, {"a\n"}, {"a,b"}, {"é"}, {`"a"`}, {"a", "a"}, {"a\x00"}, {"a/b"}, {"${jndi}"},
	} {
		first := requestID(http.Header{"X-Request-Id": lines})
		second := requestID(http.Header{"X-Request-Id": lines})
		if !isRequestID(first) || first == second {
			t.Errorf("%q gives %q, then %q; want new ones", lines, first, second)
		}
		for _, line := range lines {
			if first == line {
				t.Errorf("%q is taken over", line)
			}
		}
	}
}

func TestNewRequestIDsAreRandom(t *testing.T) {
	t.Parallel()
	const many = 2000
	ids := make(chan string, many)
	for range 4 {
		go func() {
			for range many / 4 {
				ids <- newRequestID()
			}
		}()
	}
	seen := map[string]bool{}
	var letters [26]map[byte]bool
	for range many {
		id := <-ids
		if len(id) != len(letters) || !isRequestID(id) || seen[id] {
			t.Fatalf("%q", id)
		}
		seen[id] = true
		for i := range letters {
			if letters[i] == nil {
				letters[i] = map[byte]bool{}
			}
			letters[i][id[i]] = true
		}
	}
	for i, l := range letters {
		if len(l) < 16 {
			t.Errorf("letter %d is one of %d", i, len(l))
		}
	}
}

func TestTraceID(t *testing.T) {
	t.Parallel()
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	const span = "00f067aa0ba902b7"
	for header, want := range map[string]string{
		"00-" + id + "-" + span + "-01":                      id,
		"00-" + id + "-" + span + "-00":                      id,
		"cc-" + id + "-" + span + "-01":                      id, // a later version
		"cc-" + id + "-" + span + "-01-what-will-be":         id,
		"cc-" + id + "-" + span + "-01x":                     "",
		"00-" + id + "-" + span + "-01-more":                 "",
		"ff-" + id + "-" + span + "-01":                      "",
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01": "",
		"00-" + id + "-" + strings.Repeat("0", 16) + "-01":   "",
		"00-" + strings.ToUpper(id) + "-" + span + "-01":     "",
		"00-" + id + "-" + span:                              "",
		"00-" + id + "-" + span + "-0":                       "",
		"00-" + id[:31] + "--" + span + "-01":                "",
		"00-" + id + "g" + span + "-01-":                     "",
		"":                                                   "",
		"-":                                                  "",
		"00-" + strings.Repeat("g", 32) + "-" + span + "-01": "",
		"00-" + id[:30] + "\r\n" + "-" + span + "-01":        "",
		" 00-" + id + "-" + span + "-01":                     "",
		strings.Repeat("a", 1<<16):                           "",
	} {
		if got := traceID(http.Header{"Traceparent": {header}}); got != want {
			t.Errorf("%.70q gives %q; want %q", header, got, want)
		}
	}
	valid := "00-" + id + "-" + span + "-01"
	if got := traceID(http.Header{"Traceparent": {valid, valid}}); got != "" {
		t.Errorf("two lines give %q", got)
	}
}
