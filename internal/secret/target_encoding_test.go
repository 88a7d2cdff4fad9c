package secret

import (
	"errors"
	"reflect"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestTargetEncoding(t *testing.T) {
	t.Parallel()
	for claim, c := range map[string]struct {
		t    *Target
		want string
	}{
		"nothing is nil": {nil, ""},
		"what has its zero value is left out": {
			single(func(*PostgresTarget) {}), `{"postgres":{"hosts":["db:5432"],"mode":"single"}}`,
		},
		"all of a postgres target": {
			alternating(func(p *PostgresTarget) { p.CA, p.Database, p.ProbeSecs, p.Hosts[0] = "a\n<b>", "é", 60, "DB-1" }),
			`{"postgres":{"ca":"a\n<b>","database":"é","hosts":["db-1:5432","db-2:5433"],"login_secret":"db/admin","mode":"alternating","probe_secs":60,` +
				`"standbys":["db-3:5432"],"usernames":["app_a","app_b"]}}`,
		},
		"a webhook": {
			webhook(func(*WebhookTarget) {}), `{"webhook":{"signing_secret":"hooks/key","url":"https://example.com/rotated"}}`,
		},
		"all of a webhook": {
			webhook(func(w *WebhookTarget) { w.CA, w.SendValue, w.URL = "c", true, "https://h/?a&b" }),
			`{"webhook":{"ca":"c","send_value":true,"signing_secret":"hooks/key","url":"https://h/?a&b"}}`,
		},
		"nothing in it": {&Target{Webhook: &WebhookTarget{}}, `{"webhook":{}}`},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			got := c.t.Encode()
			if string(got) != c.want || (c.want == "") != (got == nil) {
				t.Fatalf("got  %s\nwant %s", got, c.want)
			}
			back, err := DecodeTarget(got)
			if err != nil || !reflect.DeepEqual(back, c.t.Canonical()) {
				t.Errorf("came back as %+v, %v", back, err)
			}
		})
	}
}

func TestI4_DecodeTargetRefuses(t *testing.T) {
	t.Parallel()
	for claim, s := range map[string]string{
		"no type":                        `{}`,
		"both":                           `{"postgres":{"mode":"single"},"webhook":{"url":"u"}}`,
		"null":                           `null`,
		"a null type":                    `{"webhook":null}`,
		"an unknown type":                `{"mysql":{}}`,
		"an unknown type beside one":     `{"mysql":{},"webhook":{"url":"u"}}`,
		"an unknown field":               `{"webhook":{"method":"POST","url":"u"}}`,
		"a field in capitals":            `{"webhook":{"URL":"u"}}`,
		"white space":                    `{"webhook": {"url":"u"}}`,
		"trailing white space":           `{"webhook":{"url":"u"}}` + "\n",
		"trailing bytes":                 `{"webhook":{"url":"u"}}{}`,
		"fields in another order":        `{"webhook":{"url":"u","ca":"c"}}`,
		"a field twice":                  `{"webhook":{"url":"u","url":"v"}}`,
		"a field with its zero value":    `{"webhook":{"send_value":false,"url":"u"}}`,
		"an empty text":                  `{"webhook":{"ca":"","url":"u"}}`,
		"an empty list":                  `{"postgres":{"hosts":[],"mode":"single"}}`,
		"a null in a list":               `{"postgres":{"hosts":[null]}}`,
		"a host in another form":         `{"postgres":{"hosts":["db"],"mode":"single"}}`,
		"a standby in another form":      `{"postgres":{"standbys":["DB:5432"]}}`,
		"another escape":                 `{"webhook":{"url":"\u0075"}}`,
		"an escaped angle bracket":       `{"webhook":{"url":"\u003c"}}`,
		"invalid UTF-8":                  "{\"webhook\":{\"url\":\"\xff\"}}",
		"a number for a text":            `{"webhook":{"url":1}}`,
		"a broken number":                `{"postgres":{"probe_secs":10.5}}`,
		"a number in another form":       `{"postgres":{"probe_secs":1e1}}`,
		"a number that is too large":     `{"postgres":{"probe_secs":9223372036854775808}}`,
		"an array":                       `[{"webhook":{"url":"u"}}]`,
		"a cut object":                   `{"webhook":{"url":"u"}`,
		"a target in a text":             `"webhook"`,
		"white space where nothing is":   ` `,
		"a byte order mark":              "\ufeff{\"webhook\":{\"url\":\"u\"}}",
		"what Encode gives for nothing":  `{"postgres":{},"webhook":{}}`,
		"a type that was left out twice": `{"postgres":{},"postgres":{}}`,
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			target, err := DecodeTarget([]byte(s))
			wantFault(t, err, fault.Internal)
			if target != nil || !errors.Is(err, ErrMalformedTarget) {
				t.Errorf("%+v, %v", target, err)
			}
		})
	}
	if target, err := DecodeTarget(nil); target != nil || err != nil {
		t.Errorf("nil bytes gave %+v, %v", target, err)
	}
}

func FuzzDecodeTarget(f *testing.F) {
	for _, s := range []string{
		"", "{}", "null", `{"postgres":{}}`, `{"postgres":{"hosts":["db:5432"],"mode":"single"}}`, `{"webhook":{"url":"u"},"x":1}`,
		`{"postgres":{"ca":"a\n","database":"d","hosts":["[::1]:5432"],"login_secret":"l","mode":"alternating","probe_secs":60,"standbys":["s:1"],"usernames":["a","b"]}}`,
		`{"webhook":{"ca":"c","send_value":true,"signing_secret":"k","url":"https://h/?a&b"}}`, "{\"webhook\":{\"url\":\"\xff\"}}", `{"postgres":{"hosts":["DB"]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		target, err := DecodeTarget(b)
		if err != nil {
			wantFault(t, err, fault.Internal)
			return
		}
		if again := target.Encode(); string(again) != string(b) {
			t.Fatalf("%q is encoded as %q", b, again)
		}
		_ = target.Validate(Userpass, 0) // whatever was stored, it doesn't panic
	})
}
