package httpapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

var at = time.Date(2026, 1, 31, 13, 0, 0, 123456789, time.FixedZone("CET", 3600))

func sample(m *secret.Material) *vault.Secret {
	format := secret.Opaque
	if m != nil {
		format = m.Format
	}
	return &vault.Secret{
		Name: "app/key", Kind: secret.Manual, Format: format, Version: 3,
		VersionUID: uuid.MustParse("0190a6c2-7d3e-4b1a-9c57-2f6d8e4b1a90"), CreatedAt: at, Material: m,
	}
}

func text(value string) *secret.Material {
	return &secret.Material{Format: secret.Opaque, Value: sensitive.CopyString(value)}
}

func TestSecretsAreWrittenInTheShapeOfTheirFormat(t *testing.T) {
	t.Parallel()
	const head = `{"name":"app/key","kind":"manual","format":"`
	const tail = `"created_at":"2026-01-31T12:00:00.123456Z"}`
	for name, c := range map[string]struct {
		material *secret.Material
		want     string
	}{
		"text":     {text("a\"b\\c\n\u00e9</script>"), head + `opaque","version":3,"value":"a\"b\\c\né</script>",` + tail},
		"bytes":    {&secret.Material{Format: secret.Opaque, Binary: true, Value: sensitive.Take([]byte{0, 1, 2, 255})}, head + `opaque","version":3,"value_base64":"AAEC/w==",` + tail},
		"userpass": {&secret.Material{Format: secret.Userpass, Username: sensitive.CopyString("u"), Value: sensitive.CopyString("p")}, head + `userpass","version":3,"username":"u","password":"p",` + tail},
		"nothing":  {nil, head + `opaque","version":3,` + tail},
	} {
		var d disclosure
		if err := d.secret(sample(c.material)); err != nil || string(d.buf) != c.want {
			t.Errorf("%s: %s, %v; want %s", name, d.buf, err, c.want)
		}
		d.release()
	}
}

func TestTextThatIsNotUTF8IsNotDisclosed(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.route(route{method: "GET", pattern: "/v1/broken"}, func(_ context.Context, x *exchange) error {
		return x.disclose(200, func(d *disclosure) error { return d.secret(sample(text("a\xffb"))) })
	})
	wantError(t, e.do(request("GET", "/v1/broken", "")), 500)
}

func TestAnyTextSurvives(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for r := rune(0); r < 0x3000; r++ {
		all.WriteRune(r)
	}
	all.WriteString("\U0001F511\U0010FFFF")
	var d disclosure
	if err := d.secret(sample(text(all.String()))); err != nil {
		t.Fatal(err)
	}
	var got struct{ Value string }
	if err := json.Unmarshal(d.buf, &got); err != nil || got.Value != all.String() {
		t.Errorf("%v", err)
	}
}

// TestI1_NoCopyOfAnAnswerIsLeft follows the buffer of an answer as it grows, and to where it is written.
func TestI1_NoCopyOfAnAnswerIsLeft(t *testing.T) {
	t.Parallel()
	t.Run("a buffer that is outgrown is zeroed", func(t *testing.T) {
		t.Parallel()
		var d disclosure
		for i := range 200 {
			before := d.buf[:cap(d.buf)]
			if err := d.text(bytes.Repeat([]byte{'s', '\n', 1, '"', 0xc3, 0xa9}, i)); err != nil {
				t.Fatal(err)
			}
			d.base64(bytes.Repeat([]byte("s"), i))
			d.raw(",")
			moved := len(before) > 0 && &before[0] != &d.buf[0]
			if moved && slices.ContainsFunc(before, func(c byte) bool { return c != 0 }) {
				t.Fatalf("what %d bytes grew from is left", len(d.buf))
			}
		}
	})
	t.Run("the bound on quoted text is one", func(t *testing.T) {
		t.Parallel()
		for _, s := range []string{"", "a", "\x00\x01\x1f", "\n\t\"\\", "\x7f", "é\U0001F511", "\xff\xfe", "\xe2\x80", "\u2028", "</>&"} {
			var d disclosure
			d.reserve(quotedLen([]byte(s)))
			room := cap(d.buf)
			_ = d.text([]byte(s))
			if cap(d.buf) != room || len(d.buf) > quotedLen([]byte(s)) {
				t.Errorf("%q takes %d bytes, not %d", s, len(d.buf), quotedLen([]byte(s)))
			}
		}
	})
	t.Run("what was written is zeroed", func(t *testing.T) {
		t.Parallel()
		e := newEdge(t)
		e.route(route{method: "GET", pattern: "/v1/value"}, func(_ context.Context, x *exchange) error {
			return x.disclose(200, func(d *disclosure) error { return d.secret(sample(text(canary))) })
		})
		w := &keepingWriter{header: http.Header{}}
		e.ServeHTTP(w, request("GET", "/v1/value", ""))
		if w.status != 200 || !strings.Contains(w.seen, canary) {
			t.Fatalf("%d %s", w.status, w.seen)
		}
		if bytes.Contains(w.kept, []byte("a")) {
			t.Errorf("%q", w.kept)
		}
	})
}

// keepingWriter keeps the very bytes that it was handed.
type keepingWriter struct {
	header http.Header
	status int
	seen   string
	kept   []byte
}

func (w *keepingWriter) Header() http.Header    { return w.header }
func (w *keepingWriter) WriteHeader(status int) { w.status = status }
func (w *keepingWriter) Write(b []byte) (int, error) {
	w.seen, w.kept = string(b), b
	return len(b), nil
}

func TestTokensAreWrittenOnce(t *testing.T) {
	t.Parallel()
	var d disclosure
	err := d.token(&vault.IssuedToken{Name: "ci", Role: "r", Token: sensitive.CopyString("svk_x"), CreatedAt: at})
	want := `{"name":"ci","role":"r","created_at":"2026-01-31T12:00:00.123456Z","expires_at":null,"token":"svk_x"}`
	if err != nil || string(d.buf) != want {
		t.Errorf("%s, %v; want %s", d.buf, err, want)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.route(route{method: "GET", pattern: "/v1/gone"}, func(_ context.Context, x *exchange) error { return x.empty() })
	e.route(route{method: "GET", pattern: "/v1/same"}, func(_ context.Context, x *exchange) error {
		x.out.Header().Set("ETag", `"1-a"`)
		x.write(http.StatusNotModified, nil)
		return nil
	})
	e.route(route{method: "GET", pattern: "/v1/long"}, func(_ context.Context, x *exchange) error {
		return x.disclose(200, func(d *disclosure) error { d.base64(make([]byte, 64<<10)); return nil })
	})
	for target, status := range map[string]int{"/v1/gone": 204, "/v1/same": 304} {
		w := e.do(request("GET", target, ""))
		if w.Code != status || w.Body.Len() != 0 || w.Header().Get("Content-Type") != "" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %q %v", target, w.Code, w.Body, w.Header())
		}
	}
	w := e.do(request("GET", "/v1/long", ""))
	if want := base64.StdEncoding.EncodedLen(64<<10) + 2; w.Body.Len() != want || w.Header().Get("Content-Length") != "87386" {
		t.Errorf("%d bytes, %v", w.Body.Len(), w.Header())
	}
	for _, h := range []string{"X-Request-Id", "X-Content-Type-Options"} {
		if w.Header().Get(h) == "" {
			t.Errorf("no %s", h)
		}
	}
}

func TestEventDetail(t *testing.T) {
	t.Parallel()
	for detail, want := range map[string]string{
		"": "null", `{"a":1}`: `{"a":1}`, "[1]": "[1]", "plain": `"plain"`, `{"a":1,"a":2}`: `"{\"a\":1,\"a\":2}"`, "{": `"{"`, "a\xff": "\"a\ufffd\"",
	} {
		body, err := marshal(viewEvent(vault.Event{Detail: detail}))
		if err != nil || !strings.HasSuffix(string(body), `"detail":`+want+"}") {
			t.Errorf("%q: %s, %v", detail, body, err)
		}
	}
}

func TestTimestamps(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("x", -5*3600)
	for _, seconds := range []int64{-62135596800, -62167219200, -1, 0, 951782400, 1769860800, 253402300799, 253402300800, -99999999999} {
		for _, nanos := range []int64{0, 1, 999, 1000, 123456789, 999999999} {
			moment := time.Unix(seconds, nanos).In(zone)
			if got, want := timestamp(moment), moment.UTC().Format("2006-01-02T15:04:05.000000Z"); got != want {
				t.Errorf("%s; want %s", got, want)
			}
		}
	}
}
