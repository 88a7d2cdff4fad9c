package corpus

import (
	"bytes"
	"embed"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The seeds. The first line of each is the status that it is answered with, then come a request line without a version,
// headers, an empty line and the body. Placeholders in double braces are filled in when a request is sent; they are
// listed at world.fill.
//
//go:embed testdata/valid/*.http testdata/malformed/*.http
var seedFiles embed.FS

// request is one HTTP request, with placeholders, any part of which may be nonsense.
type request struct {
	name    string // of its seed, and of what was done to it
	want    int    // the status of an unchanged seed
	method  string
	target  string
	headers []string // lines without their ends
	body    []byte   // nil for none
	// noise is done to the bytes in the end.
	noise func([]byte) []byte
	// broken tells that the request's framing may be wrong: its connection is not used again, and the server may cut it.
	broken bool
}

func (q request) clone() request {
	q.headers = slices.Clone(q.headers)
	q.body = bytes.Clone(q.body)
	return q
}

func parseSeed(name string, text []byte) (request, error) {
	q := request{name: name}
	head, body, _ := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if len(lines) < 2 {
		return q, fmt.Errorf("%s: no request", name)
	}
	var err error
	if q.want, err = strconv.Atoi(strings.TrimPrefix(lines[0], "# ")); err != nil {
		return q, fmt.Errorf("%s: the first line is not a status", name)
	}
	var ok bool
	if q.method, q.target, ok = strings.Cut(lines[1], " "); !ok {
		return q, fmt.Errorf("%s: no request line", name)
	}
	q.headers = lines[2:]
	if body != "" {
		q.body = []byte(body)
	}
	return q, nil
}

// seeds reads a folder of seeds. An empty one fails the test.
func seeds(t *testing.T, folder string) []request {
	t.Helper()
	entries, err := seedFiles.ReadDir("testdata/" + folder)
	if err != nil {
		t.Fatal(err)
	}
	var all []request
	for _, entry := range entries {
		text, err := seedFiles.ReadFile(path.Join("testdata", folder, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		q, err := parseSeed(strings.TrimSuffix(entry.Name(), ".http"), text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, q)
	}
	if len(all) == 0 {
		t.Fatalf("there are no %s seeds", folder)
	}
	return all
}

// render makes the bytes that are sent. fill replaces placeholders.
func (q request) render(fill func(string) string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: vault.test\r\n", q.method, expand(q.target, fill))
	framed := false
	for _, line := range q.headers {
		lower := strings.ToLower(line)
		framed = framed || strings.HasPrefix(lower, "content-length:") || strings.HasPrefix(lower, "transfer-encoding:")
		b.WriteString(expand(line, fill))
		b.WriteString("\r\n")
	}
	body := expand(string(q.body), fill)
	if q.body != nil && !framed {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.WriteString(body)
	if q.noise != nil {
		return q.noise(b.Bytes())
	}
	return b.Bytes()
}

var placeholder = regexp.MustCompile(`\{\{([^{}]*)\}\}`)

// expand fills in placeholders. Of its own it knows {{TEXT*N}}, which repeats TEXT, and {{xHH}}, which is a byte.
func expand(s string, fill func(string) string) string {
	return placeholder.ReplaceAllStringFunc(s, func(match string) string {
		what := match[2 : len(match)-2]
		if text, times, ok := cutLast(what, "*"); ok {
			if n, err := strconv.Atoi(times); err == nil {
				return strings.Repeat(text, n)
			}
		}
		if len(what) == 3 && what[0] == 'x' {
			if b, err := strconv.ParseUint(what[1:], 16, 8); err == nil {
				return string([]byte{byte(b)})
			}
		}
		return fill(what)
	})
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
