package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestRequestsThatNoUseCaseSees(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for _, c := range []struct {
		method, target, body string
		header               []string
		status               int
		says                 string
		allow                string
	}{
		// Routes.
		{"GET", "/", "", nil, 404, "no such route", ""},
		{"GET", "/v1", "", nil, 404, "no such route", ""},
		{"GET", "/v1/nothing", "", nil, 404, "no such route", ""},
		{"GET", "/V1/secrets", "", nil, 404, "no such route", ""},
		{"GET", "/v1/audit/key", "", nil, 404, "no such route", ""},
		{"GET", "/v1/secrets%2Fapp", "", nil, 404, "no such route", ""},
		{"GET", "/v1/roles/a/b", "", nil, 404, "no such route", ""},
		{"GET", "/v1/secrets/app/explain", "", nil, 404, "no such operation", ""},
		{"GET", "/v1/jobs/0190a6c2-7d3e-4b1a-9c57-2f6d8e4b1a90/retry/x", "", nil, 404, "no such route", ""},
		{"POST", "/v1/secrets/app/undelete", "", nil, 404, "no such operation", ""},

		// Paths.
		{"GET", "/v1/secrets/", "", nil, 400, "empty", ""},
		{"GET", "/v1/secrets/app/", "", nil, 400, "segment", ""},
		{"GET", "/v1/secrets//app", "", nil, 400, "segment", ""},
		{"GET", "/v1/secrets/a//b", "", nil, 400, "segment", ""},
		{"GET", "/v1/secrets/../app", "", nil, 400, "'..'", ""},
		{"GET", "/v1/secrets/a/%2e%2e/b", "", nil, 400, "'..'", ""},
		{"GET", "/v1/secrets/a%00", "", nil, 400, "another character", ""},
		{"GET", "/v1/secrets/a%252Fb", "", nil, 400, "another character", ""},
		{"GET", "/v1/secrets/a%20b", "", nil, 400, "another character", ""},
		{"GET", "/v1/secrets/" + strings.Repeat("a", 256), "", nil, 400, "longer", ""},
		{"GET", "/v1/secrets/rotate", "", nil, 400, "name operations", ""},
		{"PUT", "/v1/secrets//app", "{}", nil, 400, "segment", ""},
		{"DELETE", "/v1/secrets/app/", "", nil, 400, "segment", ""},
		{"GET", "/v1//secrets", "", nil, 400, "empty", ""},
		{"GET", "/v1/roles/", "", nil, 400, "don't end in", ""},
		{"GET", "/v1/status/", "", nil, 400, "don't end in", ""},
		{"GET", "/v1/../v1/status", "", nil, 400, "'..'", ""},
		{"GET", "/v1/roles/..", "", nil, 400, "names of roles", ""},
		{"GET", "/v1/roles/a%2Fb", "", nil, 400, "names of roles", ""},
		{"GET", `/v1/roles/a%2Fb"`, "", nil, 400, "names of roles", ""}, // Go would encode this path anew
		{"GET", "/v1/roles/%00", "", nil, 400, "names of roles", ""},
		{"DELETE", "/v1/tokens/a%20b", "", nil, 400, "names of roles and tokens", ""},
		{"GET", "/v1/jobs/none", "", nil, 400, "a UUID in lower case", ""},
		{"GET", "/v1/jobs/0190A6C2-7D3E-4B1A-9C57-2F6D8E4B1A90", "", nil, 400, "a UUID in lower case", ""},
		{"POST", "/v1/jobs/0190a6c27d3e4b1a9c572f6d8e4b1a90/retry", "", nil, 400, "a UUID in lower case", ""},

		// Methods.
		{"HEAD", "/v1/secrets/app", "", nil, 405, "takes DELETE, GET, PUT", "DELETE, GET, PUT"},
		{"PATCH", "/v1/secrets/app", "", nil, 405, "", "DELETE, GET, PUT"},
		{"POST", "/v1/secrets/app", "", nil, 405, "", "DELETE, GET, PUT"},
		{"OPTIONS", "/v1/secrets/a%2Fb", "", nil, 405, "", "DELETE, GET, PUT"},
		{"GET", "/v1/secrets/app/rotate", "", nil, 405, "", "POST"},
		{"HEAD", "/v1/secrets/app/rotate", "", nil, 405, "", "POST"},
		{"PUT", "/v1/secrets/app/verify", "{}", nil, 405, "", "POST"},
		{"DELETE", "/v1/secrets/app/versions", "", nil, 405, "", "GET"},
		{"POST", "/v1/secrets/app/versions", "", nil, 405, "", "GET"},
		{"DELETE", "/v1/secrets", "", nil, 405, "", "POST, GET"},
		{"POST", "/v1/secrets/app/jobs", "", nil, 405, "", "GET"},
		{"GET", "/v1/secrets/app/pause", "", nil, 405, "", "POST"},
		{"DELETE", "/v1/jobs/0190a6c2-7d3e-4b1a-9c57-2f6d8e4b1a90", "", nil, 405, "", "GET"},
		{"PUT", "/v1/rotation", "{}", nil, 405, "", "GET"},
		{"HEAD", "/v1/secrets", "", nil, 405, "", "POST, GET"},
		{"GET", "/v1/batch/secrets", "", nil, 405, "", "POST"},
		{"PUT", "/v1/roles/r", "", nil, 405, "", "GET, DELETE"},
		{"GET", "/v1/roles/r/permissions", "", nil, 405, "", "PUT"},
		{"GET", "/v1/tokens/t", "", nil, 405, "", "DELETE"},
		{"POST", "/healthz", "", nil, 405, "", "GET"},
		{"get", "/v1/status", "", nil, 405, "", "GET"},
		{"BREW", "/v1/status", "", nil, 405, "", "GET"},

		// Queries.
		{"GET", "/v1/secrets/app?verzion=1", "", nil, 400, `unknown query parameter "verzion": this route takes version`, ""},
		{"GET", "/v1/secrets/app?version=0", "", nil, 400, "version must be a whole number from 1", ""},
		{"GET", "/v1/secrets/app?version=one", "", nil, 400, "version must be a whole number from 1", ""},
		{"GET", "/v1/secrets/app?version=1&version=2", "", nil, 400, "more than once", ""},
		{"GET", "/v1/secrets?limit=0", "", nil, 400, "limit must be a whole number from 1", ""},
		{"GET", "/v1/secrets?page=2", "", nil, 400, "cursor", ""},
		{"PUT", "/v1/secrets/app?version=1", "{}", nil, 400, "takes none", ""},
		{"POST", "/v1/secrets/app/rotate?force=true", "", nil, 400, `"force"`, ""},
		{"POST", "/v1/secrets/app/rotate?wait=61", "", nil, 400, "wait must be a whole number of seconds from 0 to 60", ""},
		{"POST", "/v1/secrets/app/rotate?wait=-1", "", nil, 400, "wait must be a whole number of seconds from 0 to 60", ""},
		{"POST", "/v1/secrets/app/rotate?wait=1s", "", nil, 400, "wait must be a whole number of seconds from 0 to 60", ""},
		{"POST", "/v1/secrets/app/rollback?wait=+1", `{"version":1}`, nil, 400, "wait must be a whole number of seconds from 0 to 60", ""},
		{"GET", "/v1/secrets/app/jobs?prefix=a", "", nil, 400, "this route takes state, limit, cursor", ""},
		{"GET", "/v1/jobs?state=gone", "", nil, 400, "state is open, dead or completed", ""},
		{"GET", "/v1/jobs?cursor=abc", "", nil, 400, "cursor isn't one that a page gave", ""},
		{"GET", "/v1/status?verbose", "", nil, 400, `"verbose"`, ""},
		{"GET", "/v1/audit?since=yesterday", "", nil, 400, "RFC 3339", ""},

		// Bodies.
		{"GET", "/v1/secrets/app", "{}", nil, 400, "no body", ""},
		{"DELETE", "/v1/secrets/app", "{}", nil, 400, "no body", ""},
		{"GET", "/healthz", "{}", nil, 400, "no body", ""},
		{"POST", "/v1/secrets", "", nil, 400, "a body is required", ""},
		{"PUT", "/v1/secrets/app", "", nil, 400, "a body is required", ""},
		{"POST", "/v1/secrets", "{}", nil, 400, "name is required", ""},
		{"POST", "/v1/secrets", "{}", []string{"Content-Type", "text/plain"}, 415, "application/json", ""},
		{"POST", "/v1/secrets", "{}", []string{"Content-Encoding", "gzip"}, 415, "Content-Encoding", ""},
		{"POST", "/v1/secrets/app/rotate", `{"now":true}`, nil, 400, `unknown field "now"`, ""},
		{"POST", "/v1/secrets/app/rotate", `[]`, nil, 400, "must be an object", ""},
		{"POST", "/v1/secrets/app/verify", `{"value":1}`, nil, 400, "value must be a string", ""},
		{"PUT", "/v1/secrets/app", `{"name":"b"}`, nil, 400, "name can't be changed", ""},
		{"POST", "/v1/batch/secrets", `["a"]`, nil, 400, "must be an object", ""},
		{"POST", "/v1/secrets", strings.Repeat(" ", maxBody) + "{}", nil, 413, "1048576", ""},
		{"POST", "/v1/roles", `{"name":"r"}`, nil, 400, "permissions is required", ""},
		{"PUT", "/v1/roles/r/permissions", `{}`, nil, 400, "permissions is required", ""},
		{"POST", "/v1/tokens", `{"name":"t"}`, nil, 400, "role is required", ""},

		{"POST", "/v1/secrets/app/rollback", "", nil, 400, "a body is required", ""},
		{"POST", "/v1/secrets/app/rollback", `{}`, nil, 400, "version is required", ""},
		{"POST", "/v1/secrets/app/rollback", `{"version":-1}`, nil, 400, "version is a positive number", ""},
		{"POST", "/v1/secrets/app/pause", `{"until":1}`, nil, 400, `unknown field "until"`, ""},
		{"POST", "/v1/rotation/pause", `{"x":1}`, nil, 400, `unknown field "x"`, ""},

		// What the vault alone judges.
		{"GET", "/v1/secrets?limit=1001", "", nil, 400, "limit is 1 to 1000", ""},
		{"GET", "/v1/audit?limit=1001", "", nil, 400, "limit is 1 to 1000", ""},
		{"GET", "/v1/secrets?prefix=%00", "", nil, 400, "prefix", ""},
		{"POST", "/v1/secrets/app/verify", `{}`, nil, 400, "send either value or value_base64", ""},
		{"POST", "/v1/batch/secrets", `{"names":[]}`, nil, 400, "names holds 1 to 256 names", ""},

		// Conditions.
		{"PUT", "/v1/secrets/app", "{}", []string{"If-Match", "1-a"}, 400, "double quotes", ""},
		{"PUT", "/v1/secrets/app", "{}", []string{"If-None-Match", "*"}, 400, "If-None-Match is only for GET", ""},
		{"DELETE", "/v1/secrets/app", "", []string{"If-Match", ""}, 400, "the header is empty", ""},
		{"GET", "/v1/secrets/app", "", []string{"If-None-Match", "abc"}, 400, "double quotes", ""},
		{"GET", "/v1/secrets/app", "", []string{"If-Match", "*"}, 400, "If-Match is only for PUT and DELETE", ""},
		{"POST", "/v1/secrets/app/rotate", "", []string{"Idempotency-Key", ""}, 400, "Idempotency-Key is given once, and isn't empty", ""},
		{"POST", "/v1/secrets/app/rotate", "", []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, 400, "Idempotency-Key is given once", ""},
		{"POST", "/v1/secrets", `{"name":"a","kind":"manual","value":"v"}`, []string{"Idempotency-Key", ""}, 400, "Idempotency-Key is given once", ""},
		{"PUT", "/v1/secrets/app", "{}", []string{"Idempotency-Key", "a"}, 400, "Idempotency-Key is only for creating, rotating and rolling back", ""},
		{"POST", "/v1/roles", "{}", []string{"Idempotency-Key", "a"}, 400, "Idempotency-Key is only for creating, rotating and rolling back", ""},
		{"POST", "/v1/secrets/app/rotate", "", []string{"If-Match", "*"}, 400, "If-Match is only for PUT and DELETE", ""},
	} {
		t.Run(fmt.Sprintf("%s %.60s %.30s", c.method, c.target, c.body), func(t *testing.T) {
			t.Parallel()
			w := e.do(request(c.method, c.target, c.body, c.header...))
			got := wantError(t, w, c.status)
			if !strings.Contains(got.Error, c.says) {
				t.Errorf("it says %q; want %q", got.Error, c.says)
			}
			if allow := w.Header().Get("Allow"); allow != c.allow {
				t.Errorf("Allow is %q; want %q", allow, c.allow)
			}
		})
	}
}

func TestProbesTakeWhatBalancersSend(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for target, body := range map[string]string{
		"/healthz": `{"status":"ok"}`, "/readyz": `{"status":"ready"}`, "/healthz?_=1": `{"status":"ok"}`,
	} {
		w := e.do(request("GET", target, "", "Authorization", "Basic x", "If-Match", "*"))
		if w.Code != 200 || w.Body.String() != body {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}

func TestReadyTellsNoDetail(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) {
		c.Ready = func(context.Context) error { return fmt.Errorf("host db-7 is down") }
	})
	w := e.do(request("GET", "/readyz", ""))
	got := wantError(t, w, 503)
	if strings.Contains(w.Body.String(), "db-7") || got.Code != "unavailable" || w.Header().Get("Retry-After") == "" {
		t.Errorf("%s %v", w.Body, w.Header())
	}
	if line := e.log.lines(t)[0]; !strings.Contains(fmt.Sprint(line["error"]), "db-7") || line["level"] != "WARN" {
		t.Errorf("the log line is %v", line)
	}
}

func TestCaller(t *testing.T) {
	t.Parallel()
	policy, err := access.NewAddressPolicy(true, "10.0.0.0/8", false)
	if err != nil {
		t.Fatal(err)
	}
	e := newEdge(t, func(c *Config) { c.AddressPolicy = policy })
	// See answers who the caller is taken for, as a use case would see it.
	e.route(route{method: "GET", pattern: "/v1/see"}, func(_ context.Context, x *exchange) error {
		c := x.caller()
		return x.answer(200, map[string]string{
			"address": c.Address.String(), "token": string(c.Token.Reveal()), "id": c.RequestID, "trace": c.TraceID,
		})
	})
	for name, c := range map[string]struct {
		peer   string
		header []string
		want   string
	}{
		"a peer": {"192.0.2.1:4711", []string{"X-Request-Id", "i"}, `{"address":"192.0.2.1","id":"i","token":"","trace":""}`},
		"a peer that names another": {
			"192.0.2.1:4711",
			[]string{"X-Request-Id", "i", "X-Forwarded-For", "192.0.2.9", "X-Real-Ip", "192.0.2.9"},
			`{"address":"192.0.2.1","id":"i","token":"","trace":""}`,
		},
		"a client of a trusted proxy": {
			"10.0.0.1:4711",
			[]string{"X-Request-Id", "i", "X-Forwarded-For", "127.0.0.1, 192.0.2.9", "X-Forwarded-For", "10.0.0.2"},
			`{"address":"192.0.2.9","id":"i","token":"","trace":""}`,
		},
		"nobody, as the proxy forgot to say": {
			"10.0.0.1:4711", []string{"X-Request-Id", "i"}, `{"address":"invalid IP","id":"i","token":"","trace":""}`,
		},
		"an IPv4-mapped peer": {"[::ffff:192.0.2.1]:4711", []string{"X-Request-Id", "i"}, `{"address":"192.0.2.1","id":"i","token":"","trace":""}`},
		"a token and a trace": {
			"192.0.2.1:1", []string{
				"X-Request-Id", "i", "Authorization", "bearer svk_x",
				"Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			}, `{"address":"192.0.2.1","id":"i","token":"svk_x","trace":"4bf92f3577b34da6a3ce929d0e0e4736"}`,
		},
		"another scheme": {
			"192.0.2.1:1", []string{"X-Request-Id", "i", "Authorization", "Basic dTpw"}, `{"address":"192.0.2.1","id":"i","token":"","trace":""}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := request("GET", "/v1/see", "", c.header...)
			r.RemoteAddr = c.peer
			if w := e.do(r); w.Body.String() != c.want {
				t.Errorf("%s; want %s", w.Body, c.want)
			}
		})
	}
}

func TestWhatIsWrongWithATokenIsSaid(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.route(route{method: "GET", pattern: "/v1/closed"}, func(_ context.Context, x *exchange) error {
		if !x.token.IsZero() {
			t.Error("a token that can't be read is there")
		}
		return fault.New(fault.Unauthenticated, "a token is needed")
	})
	got := wantError(t, e.do(request("GET", "/v1/closed", "", "Authorization", "Basic dTpw")), 401)
	if !strings.Contains(got.Error, "Authorization: Bearer") {
		t.Errorf("%+v", got)
	}
	got = wantError(t, e.do(request("GET", "/v1/closed", "")), 401)
	if got.Error != "a token is needed" {
		t.Errorf("%+v", got)
	}
}

// TestOverTheWire checks what only a real server shows: chunked bodies, the end of a connection, HEAD.
func TestOverTheWire(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "http://")

	send := func(t *testing.T, text string) (status int, closed bool, body string) {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		// Only keeps a server that waits for what never comes from hanging the test.
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		all, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Close, string(all)
	}
	const head = " HTTP/1.1\r\nHost: x\r\n"

	t.Run("a chunked body over the limit is 413, and the connection ends", func(t *testing.T) {
		t.Parallel()
		chunk := fmt.Sprintf("%x\r\n%s\r\n", maxBody+1, strings.Repeat("x", maxBody+1))
		status, closed, body := send(t, "POST /v1/secrets"+head+"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"+chunk+"0\r\n\r\n")
		if status != 413 || !closed {
			t.Errorf("%d %s, closed: %v", status, body, closed)
		}
	})
	t.Run("a length over the limit is 413 without waiting for the body", func(t *testing.T) {
		t.Parallel()
		status, closed, body := send(t, "POST /v1/secrets"+head+"Content-Type: application/json\r\nContent-Length: 1048577\r\n\r\n")
		if status != 413 || !closed {
			t.Errorf("%d %s, closed: %v", status, body, closed)
		}
	})
	t.Run("a badly framed body is 400", func(t *testing.T) {
		t.Parallel()
		status, _, body := send(t, "POST /v1/secrets"+head+"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
		if status != 400 || !strings.Contains(body, "did not arrive") {
			t.Errorf("%d %s", status, body)
		}
	})
	t.Run("a chunked body on GET is 400", func(t *testing.T) {
		t.Parallel()
		status, _, body := send(t, "GET /v1/secrets/app"+head+"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
		if status != 400 || !strings.Contains(body, "no body") {
			t.Errorf("%d %s", status, body)
		}
	})
	t.Run("HEAD on a secret is 405 without a body", func(t *testing.T) {
		t.Parallel()
		resp, err := http.Head(server.URL + "/v1/secrets/app")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 405 || resp.Header.Get("Allow") != "DELETE, GET, PUT" {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
	})
	for _, target := range []string{"/v1/secrets/a//b", "/v1/secrets/a/../b", "//", "/v1/secrets/%2e%2e", "http://x/v1/secrets/"} {
		t.Run("a path is never redirected: "+target, func(t *testing.T) {
			t.Parallel()
			status, _, body := send(t, "GET "+target+head+"\r\n")
			if status != 400 || !strings.Contains(body, "invalid_request") {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestGinDoesNothingButRoute(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	g := e.engine
	if g.ForwardedByClientIP || g.RedirectTrailingSlash || g.RedirectFixedPath || g.RemoveExtraSlash || g.UnescapePathValues {
		t.Error("gin does more than that")
	}
	if !g.UseRawPath || !g.HandleMethodNotAllowed || len(g.Handlers) != 0 {
		t.Error("gin does less than that")
	}
}

func TestUnknownAddressesStayUnknown(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	r := request("GET", "/v1/status", "")
	r.RemoteAddr = "@"
	x := e.newExchange(httptest.NewRecorder(), r)
	if x.caller().Address != (netip.Addr{}) || x.addressErr == nil {
		t.Errorf("%v, %v", x.caller().Address, x.addressErr)
	}
}
