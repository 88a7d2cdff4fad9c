package access

import (
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/secret"
)

func TestParsePattern(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"*", "app", "app/db", "app/*", "app*", "app/ro*", "app/rotate*", "app/.*", "app/..*", ".*", strings.Repeat("a", 255), strings.Repeat("a", 254) + "*",
	} {
		if got, err := ParsePattern(s); err != nil || string(got) != s {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for claim, c := range map[string]struct{ pattern, says string }{
		"nothing":                           {"", "empty or longer"},
		"256 bytes":                         {strings.Repeat("a", 256), "empty or longer"},
		"a prefix of 256 bytes":             {strings.Repeat("a", 255) + "*", "empty or longer"},
		"two stars":                         {"**", "'*' before its end"},
		"a star in the middle":              {"app/*/db", "'*' before its end"},
		"a star at the beginning":           {"*app", "'*' before its end"},
		"a slash before everything":         {"/*", "empty segment"},
		"a leading slash":                   {"/app/*", "empty segment"},
		"a trailing slash":                  {"app/", "empty segment"},
		"two slashes":                       {"app//*", "empty segment"},
		"dots":                              {"app/../*", "can't be '.'"},
		"a space":                           {"app /*", "another character"},
		"a question mark":                   {"app/?", "another character"},
		"a NUL":                             {"app\x00*", "another character"},
		"a percent sign":                    {"app%", "another character"},
		"a name that no secret can have":    {"app/rotate", "last segment"},
		"a dot alone, which no name may be": {"app/.", "can't be '.'"},
	} {
		t.Run("I4 refuses "+claim, func(t *testing.T) {
			t.Parallel()
			got, err := ParsePattern(c.pattern)
			wantFault(t, err, fault.Invalid, c.says, "paths are")
			if got != "" {
				t.Errorf("gave %q", got)
			}
		})
	}
	if _, err := ParsePattern("hunter2canary "); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("the input is in the error: %v", err)
	}
}

// matches is what a pattern means, said as plainly as it can be: what Rules are held against. The empty name, which no
// secret has, matches nothing.
func matches(p Pattern, name string) bool {
	if prefix, isPrefix := strings.CutSuffix(string(p), "*"); isPrefix {
		return name != "" && strings.HasPrefix(name, prefix)
	}
	return name != "" && name == string(p)
}

func TestWhatPatternsAllow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern  Pattern
		in, outs []string
	}{
		{"*", []string{"a", "app/db"}, []string{""}},
		{"app", []string{"app"}, []string{"", "ap", "apple", "app/db", "App", "x/app"}},
		{"app/*", []string{"app/db", "app/a/b"}, []string{"", "app", "apple", "x/app/db", "App/db"}},
		{"app*", []string{"app", "apple", "app/db"}, []string{"", "ap", "xapp"}},
		{"", nil, []string{"", "a", "app"}},
	} {
		rules := NewRules(false, []Permission{{Read, c.pattern}})
		for _, name := range c.in {
			if !matches(c.pattern, name) || !rules.Allows(Read, name) {
				t.Errorf("%q does not match %q", c.pattern, name)
			}
		}
		for _, name := range c.outs {
			if matches(c.pattern, name) || rules.Allows(Read, name) {
				t.Errorf("%q matches %q", c.pattern, name)
			}
		}
	}
}

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{"*", "app", "app/*", "app*", "**", "a*b", "/app", "app//*", "app/rotate", "", "a\x00*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePattern(s)
		if err != nil {
			wantFault(t, err, fault.Invalid)
			return
		}
		prefix, isPrefix := strings.CutSuffix(s, "*")
		name := prefix
		if isPrefix { // whatever passes has a name that it is for
			name += "x"
		}
		if _, err := secret.ParseName(name); err != nil || !matches(p, name) || len(s) > MaxPatternBytes {
			t.Fatalf("%q is accepted, and %q is %v, matches: %v", s, name, err, matches(p, name))
		}
	})
}
