package access

import (
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestParseAuthorization(t *testing.T) {
	t.Parallel()

	t.Run("no header is no token and no error", func(t *testing.T) {
		t.Parallel()
		for _, header := range [][]string{nil, {}} {
			if token, err := ParseAuthorization(header); err != nil || !token.IsZero() {
				t.Errorf("a token: %v, %v", !token.IsZero(), err)
			}
		}
	})

	for claim, header := range map[string]string{
		"as usual":                   "Bearer svk_abc",
		"the scheme in lower case":   "bearer svk_abc",
		"the scheme in upper case":   "BEARER svk_abc",
		"several spaces":             "Bearer   svk_abc",
		"white space around":         " \tBearer svk_abc\t ",
		"all characters of a token":  "Bearer AZaz09-._~+/",
		"padding":                    "Bearer YWJj==",
		"a token of another system":  "Bearer eyJhbGciOiJub25lIn0.e30.",
		"the longest that is copied": "Bearer " + strings.Repeat("a", 4096),
	} {
		t.Run("accepts "+claim, func(t *testing.T) {
			t.Parallel()
			token, err := ParseAuthorization([]string{header})
			fields := strings.Fields(header)
			if err != nil || string(token.Reveal()) != fields[1] {
				t.Error(err)
			}
		})
	}

	for claim, header := range map[string][]string{
		"an empty header":             {""},
		"the scheme alone":            {"Bearer"},
		"the scheme and a space":      {"Bearer "},
		"a token without a scheme":    {"svk_abc"},
		"another scheme":              {"Basic svk_abc"},
		"a scheme that begins alike":  {"BearerX svk_abc"},
		"no space":                    {"Bearer:svk_abc"},
		"a tab":                       {"Bearer\tsvk_abc"},
		"a tab after the space":       {"Bearer \tsvk_abc"},
		"two tokens":                  {"Bearer svk_abc svk_def"},
		"two tokens with a comma":     {"Bearer svk_abc,svk_def"},
		"two credentials in a line":   {"Bearer svk_abc, Bearer svk_def"},
		"two lines":                   {"Bearer svk_abc", "Bearer svk_def"},
		"two lines that are the same": {"Bearer svk_abc", "Bearer svk_abc"},
		"a second line that is empty": {"Bearer svk_abc", ""},
		"quotes":                      {`Bearer "svk_abc"`},
		"padding alone":               {"Bearer =="},
		"padding within":              {"Bearer a=b"},
		"a control character":         {"Bearer svk_\x01"},
		"a NUL":                       {"Bearer svk_abc\x00"},
		"a line break":                {"Bearer svk_abc\n"},
		"bytes beyond ASCII":          {"Bearer svk_é"},
		"a scheme beyond ASCII":       {"Bearer\u017f svk_abc"},
		"a token that is too long":    {"Bearer " + strings.Repeat("a", 4097)},
	} {
		t.Run("I4 refuses "+claim, func(t *testing.T) {
			t.Parallel()
			token, err := ParseAuthorization(header)
			wantFault(t, err, fault.Unauthenticated, "send ")
			if !token.IsZero() {
				t.Error("a token came with the error")
			}
			if strings.Contains(err.Error(), "abc") {
				t.Errorf("the token is in the error: %v", err)
			}
		})
	}
}

func FuzzParseAuthorization(f *testing.F) {
	for _, s := range []string{"", "Bearer svk_abc", "bearer  a==", "Basic x", "Bearer a b", "Bearer a\nBearer b", "Bearer \x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		lines := strings.Split(header, "\n")
		token, err := ParseAuthorization(slices.Clone(lines))
		if err == nil && token.IsZero() {
			t.Fatal("a header that is there counts as absent")
		}
		if err != nil {
			wantFault(t, err, fault.Unauthenticated)
			return
		}
		if len(lines) != 1 {
			t.Fatalf("%d lines are accepted", len(lines))
		}
		if s := string(token.Reveal()); s == "" || strings.ContainsAny(s, " ,\t\"") || !strings.HasSuffix(strings.TrimRight(header, " \t"), " "+s) {
			t.Fatalf("%q gave %q", header, s)
		}
	})
}
