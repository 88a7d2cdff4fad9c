package load

import (
	"errors"
	"strings"
	"testing"
)

const complete = "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n\r\nhello"

func TestAnswersAreUnderstoodHoweverTheyAreCut(t *testing.T) {
	t.Parallel()
	for n := range len(complete) {
		if r, err := parse([]byte(complete[:n])); !errors.Is(err, errIncomplete) {
			t.Fatalf("the first %d bytes: %v, %v", n, r, err)
		}
	}
	r, err := parse([]byte(complete + "more"))
	if err != nil || r.status != 200 || string(r.body) != "hello" || r.size != len(complete) {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = parse([]byte("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"))
	if err != nil || r.status != 204 || len(r.body) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestOtherAnswersAreErrors(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"an older protocol":  strings.Replace(complete, "1.1", "1.0", 1),
		"no status":          strings.Replace(complete, "200", "2xx", 1),
		"no final status":    "HTTP/1.1 100 Continue\r\n\r\n",
		"no length":          strings.Replace(complete, "Content-Length", "Content-Size", 1),
		"chunks":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a length in words":  strings.Replace(complete, ": 5", ": five", 1),
		"a negative length":  strings.Replace(complete, ": 5", ": -5", 1),
		"an immense length":  strings.Replace(complete, ": 5", ": 99999999999999999999", 1),
		"an empty length":    strings.Replace(complete, ": 5", ": ", 1),
		"a head without end": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", maxHead),
		"nothing of HTTP":    "hello\r\n\r\n",
	} {
		if r, err := parse([]byte(text)); err == nil || errors.Is(err, errIncomplete) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestACheckerWantsTheStatusAlwaysAndTheBodyInASample(t *testing.T) {
	t.Parallel()
	c := newChecker(&Spec{Status: 200, Sample: 10, Expect: []Template{
		Text("a=").Number(2, Slot{Times: 1}), Text("b"),
	}})
	for _, test := range []struct {
		n      uint64
		status int
		body   string
		wrong  string // what the error names; "" is none
	}{
		{20, 200, "a=20 b", ""},
		{20, 200, "b a=20", `lacks "b"`}, // in this order
		{20, 200, "a=21 b", `lacks "a=20"`},
		{21, 200, "anything", ""}, // not in the sample
		{21, 503, "a=21 b", "503 in place of 200"},
	} {
		err := c.check(test.n, response{status: test.status, body: []byte(test.body)})
		if test.wrong == "" && err != nil || test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)) {
			t.Errorf("request %d, %d %q: got %v, want %q", test.n, test.status, test.body, err, test.wrong)
		}
	}
}
