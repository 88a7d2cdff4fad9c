package webhook

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/target"
)

// byDefinition computes HMAC-SHA256 as RFC 2104 writes it, for keys of at most a block.
func byDefinition(key, message []byte) []byte {
	inner, outer := bytes.Repeat([]byte{0x36}, 64), bytes.Repeat([]byte{0x5c}, 64)
	for i, c := range key {
		inner[i] ^= c
		outer[i] ^= c
	}
	first := sha256.Sum256(append(inner, message...))
	second := sha256.Sum256(append(outer, first[:]...))
	return second[:]
}

// received is a request as it arrived.
type received struct {
	method, uri, host, proto string
	header                   http.Header
	body                     []byte
}

// listen starts a receiver that takes every event and passes on what arrives.
func listen(t *testing.T) (Config, <-chan received) {
	t.Helper()
	requests := make(chan received, 8)
	return receive(t, func(w http.ResponseWriter, r *http.Request) {
		requests <- received{r.Method, r.RequestURI, r.Host, r.Proto, r.Header, readAll(t, r.Body)}
		w.WriteHeader(http.StatusNoContent)
	}), requests
}

func TestSend_RequestIsWhatTheDocumentSays(t *testing.T) {
	t.Parallel()
	cfg, requests := listen(t)
	cfg.URL += "/a%20b/ü?x=1&y=%2F"
	now := time.Now().Truncate(time.Second)
	cfg.Clock = func() time.Time { return now }
	if err := newTarget(t, cfg).Send(t.Context(), event(), keys(keyA)); err != nil {
		t.Fatal(err)
	}
	got := <-requests
	if got.method != "POST" || got.uri != "/hook/a%20b/%C3%BC?x=1&y=%2F" || got.proto != "HTTP/1.1" || !strings.HasPrefix(got.host, "127.0.0.1:") {
		t.Errorf("got %s %s %s of %s", got.method, got.uri, got.proto, got.host)
	}
	want := `{"event_id":"0190c8a4-3f5e-7c6b-9d2a-1b2c3d4e5f60","step":"apply","secret":"payments/api-key","value":"` + canary +
		`","secret_id":"5b8e0f3c-52ad-4d0c-8f0e-9a8b7c6d5e4f","version":7,"generation":12`
	want += strings.Repeat(" ", 1001-len(want)) + `}`
	if string(got.body) != want {
		t.Errorf("the body is\n%s, want\n%s", got.body, want)
	}
	signed := fmt.Sprintf("v1:%d:0190c8a4-3f5e-7c6b-9d2a-1b2c3d4e5f60:%s", now.Unix(), want)
	for name, value := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "sealkeep", "Content-Length": fmt.Sprint(len(want)),
		"Sealkeep-Event-Id": "0190c8a4-3f5e-7c6b-9d2a-1b2c3d4e5f60", "Sealkeep-Timestamp": fmt.Sprint(now.Unix()),
		"Sealkeep-Signature": "v1=" + hex.EncodeToString(byDefinition(keyA, []byte(signed))),
	} {
		if v := got.header.Values(name); len(v) != 1 || v[0] != value {
			t.Errorf("%s is %q, want %q", name, v, value)
		}
		got.header.Del(name)
	}
	if got.header.Del("Connection"); len(got.header) != 0 {
		t.Errorf("there is more: %v", got.header)
	}
}

func TestSend_EveryKeySignsAndEachVerifies(t *testing.T) {
	t.Parallel()
	cfg, requests := listen(t)
	if err := newTarget(t, cfg).Send(t.Context(), event(), keys(keyB, keyA)); err != nil {
		t.Fatal(err)
	}
	got := <-requests
	prefix := "v1:" + got.header.Get("Sealkeep-Timestamp") + ":" + got.header.Get("Sealkeep-Event-Id") + ":"
	message := append([]byte(prefix), got.body...)
	want := "v1=" + hex.EncodeToString(byDefinition(keyB, message)) + ", v1=" + hex.EncodeToString(byDefinition(keyA, message))
	if s := got.header.Get("Sealkeep-Signature"); s != want {
		t.Errorf("signed %s, want %s", s, want)
	}
	for _, key := range [][]byte{keyA, keyB} {
		if _, err := Verify(got.header, got.body, [][]byte{key}, time.Now(), time.Hour); err != nil {
			t.Error(err)
		}
	}
	if _, err := Verify(got.header, got.body, [][]byte{bytes.Repeat([]byte("c"), 32)}, time.Now(), time.Hour); err == nil {
		t.Error("control: another key verifies it")
	}
}

func TestSend_EveryKindOfValueArrives(t *testing.T) {
	t.Parallel()
	cfg, requests := listen(t)
	it := newTarget(t, cfg)
	awkward := "\"\\\x01\n ü\u2028<&>𝄞\x7f"
	for name, tc := range map[string]struct {
		change func(*Event)
		want   map[string]any
	}{
		"text": {func(e *Event) { e.Value = sensitive.CopyString(awkward) }, map[string]any{"value": awkward}},
		"bytes": {
			func(e *Event) { e.Value, e.Binary = sensitive.Copy([]byte{0, 0xff, 1}), true }, map[string]any{"value_base64": "AP8B"},
		},
		"user and password": {
			func(e *Event) { e.Username = "ann \"o'\"" }, map[string]any{"username": "ann \"o'\"", "password": canary},
		},
		"fetch": {
			func(e *Event) {
				e.Value = sensitive.Bytes{}
				e.Fetch = &Fetch{
					URL: "https://vault.example/f?a=1&b=2", Token: sensitive.CopyString("t" + canary),
					ExpiresAt: time.Date(2027, 3, 1, 1, 0, 0, 1000, time.FixedZone("", 3600)),
				}
			},
			map[string]any{"fetch": map[string]any{
				"url": "https://vault.example/f?a=1&b=2", "token": "t" + canary, "expires_at": "2027-03-01T00:00:00.000001Z",
			}},
		},
		"nothing in a test": {func(e *Event) { e.Step, e.Value = StepTest, sensitive.Bytes{} }, map[string]any{}},
	} {
		e := event()
		tc.change(&e)
		if err := it.Send(t.Context(), e, keys(keyA)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		tc.want["event_id"], tc.want["step"], tc.want["secret"], tc.want["secret_id"] = e.ID.String(), e.Step, e.Secret, e.SecretID.String()
		tc.want["version"], tc.want["generation"] = 7.0, 12.0
		var got map[string]any
		if err := json.Unmarshal((<-requests).body, &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}

// A buffer that grows would leave what it held behind.
func TestI1_BodyNeverOutgrowsItsBuffer(t *testing.T) {
	t.Parallel()
	worst := strings.Repeat("\x01\"\\ü\u2028", 9000)
	for name, change := range map[string]func(*Event){
		"text":     func(e *Event) { e.Value = sensitive.CopyString(worst) },
		"empty":    func(e *Event) { e.Value = sensitive.Take(nil) },
		"bytes":    func(e *Event) { e.Value, e.Binary = sensitive.Copy(bytes.Repeat([]byte{0xff}, 64<<10)), true },
		"userpass": func(e *Event) { e.Username, e.Value = worst, sensitive.CopyString(worst) },
		"test":     func(e *Event) { e.Step, e.Value = StepTest, sensitive.Bytes{} },
		"fetch": func(e *Event) {
			e.Value = sensitive.Bytes{}
			e.Fetch = &Fetch{URL: worst, Token: sensitive.CopyString(worst), ExpiresAt: time.Now()}
		},
	} {
		e := event()
		e.Secret, e.Version, e.Generation = worst, -1<<63, -1<<63
		change(&e)
		buf := make([]byte, 0, e.size())
		if out := e.append(buf); len(out) > cap(buf) {
			t.Errorf("%s: %d bytes in a buffer of %d", name, len(out), cap(buf))
		} else if !json.Valid(out) {
			t.Errorf("%s: it isn't JSON", name)
		} else if len(out)%piece != 0 {
			t.Errorf("%s: %d bytes aren't whole pieces", name, len(out))
		}
	}
}

func TestSend_RefusesWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	cfg := receive(t, func(http.ResponseWriter, *http.Request) { connections.Add(1) })
	it := newTarget(t, cfg)
	fetch := &Fetch{URL: "https://vault.example/f", Token: sensitive.CopyString("t"), ExpiresAt: time.Now()}
	for name, change := range map[string]func(*Event){
		"no id":            func(e *Event) { e.ID = uuid.Nil },
		"another step":     func(e *Event) { e.Step = "promote" },
		"value and fetch":  func(e *Event) { e.Fetch = fetch },
		"neither":          func(e *Event) { e.Value = sensitive.Bytes{} },
		"fetch for a user": func(e *Event) { e.Value, e.Fetch, e.Username = sensitive.Bytes{}, fetch, "ann" },
		"a test's value":   func(e *Event) { e.Step = StepTest },
		"a test's fetch":   func(e *Event) { e.Step, e.Value, e.Fetch = StepTest, sensitive.Bytes{}, fetch },
		"a test of a user": func(e *Event) { e.Step, e.Value, e.Username = StepTest, sensitive.Bytes{}, "ann" },
		"a binary test":    func(e *Event) { e.Step, e.Value, e.Binary = StepTest, sensitive.Bytes{}, true },
		"no token":         func(e *Event) { e.Value, e.Fetch = sensitive.Bytes{}, &Fetch{URL: fetch.URL} },
		"binary password":  func(e *Event) { e.Username, e.Binary = "ann", true },
		"not text":         func(e *Event) { e.Value = sensitive.Copy([]byte(canary + "\xff")) },
		"secret not text":  func(e *Event) { e.Secret = "\xff" },
	} {
		e := event()
		change(&e)
		err := it.Send(t.Context(), e, keys(keyA))
		if err == nil {
			t.Errorf("%s: it was sent", name)
			continue
		}
		wantClass(t, err, target.Permanent)
	}
	for name, all := range map[string][][]byte{
		"no key": nil, "three": {keyA, keyB, keyA}, "an empty one": {{}}, "a short one": {keyA[:31]}, "the second is short": {keyA, keyA[:31]},
	} {
		err := it.Send(t.Context(), event(), keys(all...))
		if err == nil {
			t.Errorf("%s: it was sent", name)
			continue
		}
		wantClass(t, err, target.Permanent, "sign")
	}
	if connections.Load() != 0 {
		t.Errorf("%d requests arrived", connections.Load())
	}
	if err := it.Send(t.Context(), event(), keys(keyA)); err != nil || connections.Load() != 1 {
		t.Errorf("control: %v", err)
	}
}

func TestNew_RefusesWhatLeadsNowhere(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"https://example.com", "https://example.com:8443/a/b?c=d", "https://10.0.0.1/", "https://[2001:db8::1]:8443", "https://example.com.:/x",
	} {
		if _, err := New(Config{URL: good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	const mark = "mark5309"
	for name, url := range map[string]string{
		"nothing":            "",
		"http":               "http://" + mark + ".example",
		"no scheme":          mark + ".example/hook",
		"opaque":             "https:" + mark,
		"no host":            "https:///" + mark,
		"only a port":        "https://:443/" + mark,
		"user":               "https://" + mark + "@example.com",
		"password":           "https://a:" + mark + "@example.com",
		"fragment":           "https://example.com/#" + mark,
		"empty fragment":     "https://example.com/" + mark + "#",
		"zone":               "https://[fe80::1%25" + mark + "]/",
		"host not in ASCII":  "https://ü" + mark + ".example",
		"space in the query": "https://example.com/?a b" + mark,
		"query not in ASCII": "https://example.com/?ü" + mark,
		"line in the path":   "https://example.com/a\r\nX: " + mark,
		"line in the host":   "https://exam%0d%0aple.com/" + mark,
		"port 0":             "https://example.com:0/" + mark,
		"port 65536":         "https://example.com:65536/" + mark,
		"port name":          "https://example.com:https/" + mark,
		"too long":           "https://example.com/" + mark + strings.Repeat("a", 2048),
	} {
		_, err := New(Config{URL: url})
		if fault.KindOf(err) != fault.Invalid || err == nil {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), mark) {
			t.Errorf("%s: it is repeated: %v", name, err)
		}
	}
	for name, cfg := range map[string]Config{
		"a CA without certificates": {CA: []byte("-----BEGIN NOTHING-----")},
		"a range that isn't one":    {Allowed: []netip.Prefix{{}}},
		"a mapped range":            {Allowed: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.0"), 104)}},
		"a negative timeout":        {Timeout: -1},
	} {
		cfg.URL = "https://example.com"
		if _, err := New(cfg); err == nil || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
