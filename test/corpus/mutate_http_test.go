package corpus

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

func onTarget(name string, change func(r *rand.Rand, target string) string) mutation {
	return mutation{name, func(r *rand.Rand, q *request) bool {
		q.target = change(r, q.target)
		return true
	}}
}

func splitQuery(target string) (path, query string) {
	path, query, found := strings.Cut(target, "?")
	if found {
		query = "?" + query
	}
	return path, query
}

// targetMutations change the method and what the request asks for.
var targetMutations = []mutation{
	{"another method", func(r *rand.Rand, q *request) bool {
		q.method = pick(r, []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "BREW", "PROPFIND"})
		// HEAD and CONNECT frame their answers differently, and a body that isn't read ends the connection.
		q.broken = true
		return true
	}},
	onTarget("an escape in the path", func(r *rand.Rand, target string) string {
		path, query := splitQuery(target)
		escape := pick(r, []string{"%", "%2", "%zz", "%00", "%0a", "%2F", "%2f%2f", "%2e%2e", "%2e", "%25", "%252F", "%ff", "%c0%af", "%20", "%5c", "%3f", "%23"})
		at := r.IntN(len(path) + 1)
		return path[:at] + escape + path[at:] + query
	}),
	onTarget("a segment too many", func(r *rand.Rand, target string) string {
		path, query := splitQuery(target)
		return path + pick(r, []string{"/", "//", "/.", "/..", "/../..", "/rotate", "/verify", "/versions", "/metadata", "/undelete", "/x/", ";a=b", "/\\", "/%2e%2e/x"}) + query
	}),
	onTarget("a long path", func(r *rand.Rand, target string) string {
		path, query := splitQuery(target)
		return path + pick(r, []string{"{{a*255}}", "/{{a*256}}", "{{a*3000}}", "{{/a*2000}}", "{{%2F*500}}", "{{a*30000}}"}) + query
	}),
	onTarget("bytes in the path", func(r *rand.Rand, target string) string {
		path, query := splitQuery(target)
		return path + pick(r, []string{"\"", "<>", "{}", "|", "^", "`", "é", "{{xff}}{{xfe}}", "\\", "*", "@", ":", "~", "+", "=", "&"}) + query
	}),
	onTarget("a query", func(r *rand.Rand, target string) string {
		sep := "?"
		if strings.Contains(target, "?") {
			sep = "&"
		}
		return target + sep + pick(r, []string{
			"x=1", "version=0", "version=-1", "version=1&version=2", "version=99999999999999999999", "version=1e3", "version=", "version", "limit=0", "limit=1001",
			"limit=%31", "limit=+1", "prefix=%00", "prefix=%ff", "prefix={{a*300}}", "prefix=//", "cursor=x", "cursor={{a*2000}}", "cursor=%00", "since=now", "until=0",
			"since=2026-01-31T12:00:00+01:00", "=", "&", "&&", "%zz", ";", "a;b", "{{a=b&*500}}", "pretty", "token={{token}}",
		})
	}),
	onTarget("another form of target", func(r *rand.Rand, target string) string {
		return pick(r, []string{"http://vault.test" + target, "https://other.test" + target, "//other.test" + target, "*", target + "#fragment", "?" + strings.TrimPrefix(target, "/"), "/"})
	}),
}

// headerLines are sent in addition, or in place of a header of that name.
var headerLines = []string{
	"Content-Type: text/plain", "Content-Type: application/json; charset=utf-16", "Content-Type: application/json;", "Content-Type: application/JSON", "Content-Type:", "Content-Type: application/x-www-form-urlencoded",
	"Content-Type: multipart/form-data; boundary=x", "Content-Type: application/json, text/plain", "Content-Type: {{a*5000}}", "Content-Encoding: gzip", "Content-Encoding: identity",
	"Authorization: Bearer", "Authorization: Bearer  {{token}}", "Authorization: bearer {{token}}", "Authorization: Bearer {{token}}x", "Authorization: Bearer {{token}} x", "Authorization: Basic dTpw", "Authorization: {{token}}", "Authorization:",
	"Authorization: Bearer svk_{{0*49}}", "Authorization: Bearer {{a*10000}}", "Authorization: Bearer {{canary}}", "Authorization: Bearer {{xff}}{{xfe}}",
	"If-Match: *", `If-Match: "1-0190a6c2-7d3e-4b1a-9c57-2f6d8e4b1a90"`, `If-Match: W/"x"`, "If-Match: x", `If-Match: "`, `If-Match: {{"a",*2000}}"b"`, "If-Match:",
	"If-None-Match: *", `If-None-Match: "x"`, "If-None-Match: x", `If-None-Match: "a" "b"`, "If-None-Match: {{a*9000}}",
	"X-Request-Id: {{a*64}}", "X-Request-Id: {{a*65}}", "X-Request-Id: a b", "X-Request-Id: {{canary}}", "X-Request-Id:", "X-Request-Id: é", "X-Request-Id: \"><script>", "X-Request-Id: {{xff}}",
	"traceparent: 00-zz-zz-01", "traceparent: 00-00000000000000000000000000000000-0000000000000000-00", "traceparent: {{a*3000}}", "traceparent: ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	"X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: {{10.0.0.1,*2000}}", "X-Forwarded-For: ::1, x, [", "Forwarded: for=10.0.0.1", "X-Real-IP: 10.0.0.1",
	"Accept: text/html", "Accept-Encoding: gzip", "Cookie: {{a*4000}}", "Origin: https://evil.test", "Range: bytes=0-1", "Expect: 100-continue", "Upgrade: websocket", "Te: trailers",
	"X-HTTP-Method-Override: DELETE", "Host: other.test", "X: {{a*60000}}",
}

// chunked is never given twice: net/http answers transfer codings that it doesn't know with 501, as RFC 9112 has it.
const chunked = "Transfer-Encoding: chunked"

// headerMutations change the headers.
var headerMutations = []mutation{
	{"a header", func(r *rand.Rand, q *request) bool {
		line := pick(r, headerLines)
		name, _, _ := strings.Cut(line, ":")
		if r.IntN(4) > 0 {
			q.headers = slices.DeleteFunc(q.headers, func(h string) bool {
				return len(h) > len(name) && strings.EqualFold(h[:len(name)+1], name+":")
			})
		}
		// A second Host, and Expect, are for net/http to deal with.
		q.broken = q.broken || name == "Host" || name == "Expect" || name == "Upgrade"
		q.headers = append(q.headers, line)
		return true
	}},
	{"a header left out", func(r *rand.Rand, q *request) bool {
		if len(q.headers) == 0 {
			return false
		}
		i := r.IntN(len(q.headers))
		q.headers = slices.Delete(q.headers, i, i+1)
		return true
	}},
	{"a header given twice", func(r *rand.Rand, q *request) bool {
		if len(q.headers) == 0 {
			return false
		}
		line := pick(r, q.headers)
		if line == chunked {
			return false
		}
		q.headers = append(q.headers, line)
		return true
	}},
	{"a flood of headers", func(r *rand.Rand, q *request) bool {
		for i := range 50 + r.IntN(400) {
			q.headers = append(q.headers, fmt.Sprintf("X-Flood-%d: {{a*%d}}", i, r.IntN(100)))
		}
		return true
	}},
	{"a broken header line", func(r *rand.Rand, q *request) bool {
		q.headers = append(q.headers, pick(r, []string{"NoColon", ": empty", "A B: c", " folded", "X-Nul: a{{x00}}b", "X\xff: y", "X-Bell: \a", "Content-Length: 5\r\nContent-Length: 6"}))
		q.broken = true
		return true
	}},
	{"a wrong length", func(r *rand.Rand, q *request) bool {
		if q.body == nil {
			return false
		}
		q.headers = append(q.headers, pick(r, []string{
			"Content-Length: 0", "Content-Length: 1", "Content-Length: 999999", "Content-Length: -1", "Content-Length: +5", "Content-Length: 99999999999999999999",
			"Content-Length: 1048577", "Content-Length: 0x10", "Content-Length: 5, 5",
		}))
		q.broken = true
		return true
	}},
	{"broken chunks", func(r *rand.Rand, q *request) bool {
		if q.body == nil {
			return false
		}
		if !slices.Contains(q.headers, chunked) {
			q.headers = append(q.headers, chunked)
		}
		q.body = []byte(pick(r, []string{
			"zz\r\n{}\r\n0\r\n\r\n", "2\r\n{}\r\n", "2\r\n{}", "5\r\n{}\r\n0\r\n\r\n", "FFFFFFFFFFFFFFFFF\r\n", "0\r\n\r\n", "-2\r\n{}\r\n0\r\n\r\n", "2;{{a*5000}}\r\n{}\r\n0\r\n\r\n",
		}))
		q.broken = true
		return true
	}},
}

// mutations are all of them.
var mutations = slices.Concat(jsonMutations, bodyMutations, targetMutations, headerMutations)
