package secret

import (
	"encoding/json"
	"errors"
	"maps"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestCustomMetadataEncoding(t *testing.T) {
	t.Parallel()
	for claim, c := range map[string]struct {
		m    map[string]string
		want string
	}{
		"nothing is nil":                         {nil, ""},
		"no pairs are nil":                       {map[string]string{}, ""},
		"keys are sorted":                        {map[string]string{"b": "2", "a": "1", "aa": "3", "A": "4"}, `{"A":"4","a":"1","aa":"3","b":"2"}`},
		"only what must be escaped is":           {map[string]string{"k": "\"\\/<>&\u2028\u007fé\b\t\n\f\r\x01\x1f"}, `{"k":"\"\\/<>&` + "\u2028\u007fé" + `\b\t\n\f\r\u0001\u001f"}`},
		"keys are escaped too":                   {map[string]string{"\"\n": ""}, `{"\"\n":""}`},
		"keys sort by UTF-16 (RFC 8785, 3.2.3)":  {map[string]string{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One", "\U0001f600": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"}, `{"\r":"Carriage Return","1":"One","` + "\u0080" + `":"Control","ö":"Latin Small Letter O With Diaeresis","€":"Euro Sign","😀":"Emoji: Grinning Face","` + "\ufb33" + `":"Hebrew Letter Dalet With Dagesh"}`},
		"characters beyond U+FFFF sort by both":  {map[string]string{"\U0001f601": "2", "\U0001f600": "1", "\U0001f600a": "3", "\U0002f600": "4"}, `{"😀":"1","😀a":"3","😁":"2","` + "\U0002f600" + `":"4"}`},
		"a key that begins another comes before": {map[string]string{"ab": "2", "a": "1"}, `{"a":"1","ab":"2"}`},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			got := EncodeCustomMetadata(c.m)
			if string(got) != c.want || (c.want == "") != (got == nil) {
				t.Fatalf("got  %s\nwant %s", got, c.want)
			}
			back, err := DecodeCustomMetadata(got)
			if err != nil || !maps.Equal(back, c.m) {
				t.Errorf("came back as %v, %v", back, err)
			}
			var standard map[string]string
			if c.want != "" && (json.Unmarshal(got, &standard) != nil || !maps.Equal(standard, c.m)) {
				t.Errorf("another decoder reads %v", standard)
			}
		})
	}
}

func TestI4_DecodeCustomMetadataRefuses(t *testing.T) {
	t.Parallel()
	for claim, s := range map[string]string{
		"an empty object":              `{}`,
		"null":                         `null`,
		"white space":                  `{"a": "b"}`,
		"trailing white space":         `{"a":"b"} `,
		"trailing bytes":               `{"a":"b"}{}`,
		"keys in another order":        `{"b":"1","a":"2"}`,
		"a key twice":                  `{"a":"1","a":"1"}`,
		"another escape":               `{"a":"\u0062"}`,
		"a null value":                 `{"a":null}`,
		"a number":                     `{"a":1}`,
		"an array":                     `["a"]`,
		"invalid UTF-8":                "{\"a\":\"\xff\"}",
		"half a surrogate":             `{"a":"\ud83d"}`,
		"a cut object":                 `{"a":"b"`,
		"a raw control character":      "{\"a\":\"\n\"}",
		"upper-case digits in escapes": `{"a":"\u001F"}`,
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			m, err := DecodeCustomMetadata([]byte(s))
			wantFault(t, err, fault.Internal)
			if m != nil || !errors.Is(err, ErrMalformedMetadata) {
				t.Errorf("%v, %v", m, err)
			}
		})
	}
	if m, err := DecodeCustomMetadata(nil); m != nil || err != nil {
		t.Errorf("nil bytes gave %v, %v", m, err)
	}
}

func FuzzDecodeCustomMetadata(f *testing.F) {
	for _, s := range []string{
		"", "{}", "null", `{"a":"b"}`, `{"b":"1","a":"2"}`, `{"a":"1","a":"2"}`, `{"a":"\u0001\n"}`, `{"a":"` + "\u2028😀\ufb33" + `"}`,
		`{"` + "\ufb33" + `":"1","` + "\U0001f600" + `":"2"}`, "{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeCustomMetadata(b)
		if err != nil {
			return
		}
		if again := EncodeCustomMetadata(m); string(again) != string(b) {
			t.Fatalf("%q is encoded as %q", b, again)
		}
	})
}
