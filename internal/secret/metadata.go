package secret

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// ErrMalformedMetadata says that stored bytes are not what EncodeCustomMetadata gives.
var ErrMalformedMetadata = errors.New("secret: malformed custom metadata")

// EncodeCustomMetadata gives the one JSON text of m: an object as RFC 8785 (JCS) writes it, keys in the order of
// their UTF-16 code units, no white space, only '"', '\' and control characters escaped. The bytes are stored
// and authenticated as they are. An empty m gives nil. What Settings.Validate refuses has no defined result.
func EncodeCustomMetadata(m map[string]string) []byte {
	if len(m) == 0 {
		return nil
	}
	keys := slices.SortedFunc(maps.Keys(m), compareUTF16)
	out := []byte{'{'}
	for i, key := range keys {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendJSONString(out, key)
		out = append(out, ':')
		out = appendJSONString(out, m[key])
	}
	return append(out, '}')
}

// DecodeCustomMetadata reads what EncodeCustomMetadata gave; nil and empty bytes are no metadata, a nil map.
// Bytes that would be encoded otherwise are an error of kind Internal that wraps ErrMalformedMetadata.
func DecodeCustomMetadata(b []byte) (map[string]string, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var m map[string]string
	// Encoding again and comparing refuses everything that the decoder lets pass: doubled keys, white space,
	// other escapes, null for a value, invalid UTF-8.
	if err := json.Unmarshal(b, &m); err != nil || !bytes.Equal(EncodeCustomMetadata(m), b) {
		return nil, fault.Wrap(fault.Internal, ErrMalformedMetadata, "")
	}
	return m, nil
}

// compareUTF16 orders as RFC 8785, section 3.2.3, asks. It differs from the order of bytes only where characters
// beyond U+FFFF meet those from U+E000 to U+FFFF.
func compareUTF16(a, b string) int {
	for a != "" && b != "" {
		ra, na := utf8.DecodeRuneInString(a)
		rb, nb := utf8.DecodeRuneInString(b)
		if ra != rb {
			a1, a2 := utf16.EncodeRune(ra)
			b1, b2 := utf16.EncodeRune(rb)
			return cmp.Or(cmp.Compare(firstUnit(ra, a1), firstUnit(rb, b1)), cmp.Compare(a2, b2))
		}
		a, b = a[na:], b[nb:]
	}
	return cmp.Compare(len(a), len(b))
}

func firstUnit(r, surrogate rune) rune {
	if r > 0xffff {
		return surrogate
	}
	return r
}

func appendJSONString(out []byte, s string) []byte {
	const hex = "0123456789abcdef"
	out = append(out, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c == '\b':
			out = append(out, '\\', 'b')
		case c == '\t':
			out = append(out, '\\', 't')
		case c == '\n':
			out = append(out, '\\', 'n')
		case c == '\f':
			out = append(out, '\\', 'f')
		case c == '\r':
			out = append(out, '\\', 'r')
		case c < 0x20:
			out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}
