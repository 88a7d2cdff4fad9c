package httpapi

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/secret"
)

func TestSplitPath(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 255)
	for _, c := range []struct{ raw, name, verb string }{
		{"app", "app", ""},
		{"app/db/password", "app/db/password", ""},
		{"app%2Fdb", "app/db", ""},
		{"app%2fdb/password", "app/db/password", ""},
		{"%61pp", "app", ""},
		{"app/rotate", "app", "rotate"},
		{"app%2Frotate", "app", "rotate"},
		{"app/rot%61te", "app", "rotate"},
		{"app/db/verify", "app/db", "verify"},
		{"app/versions", "app", "versions"},
		{"app/Rotate", "app/Rotate", ""},
		{"rotate/app", "rotate/app", ""},
		{"app/rotate/x", "app/rotate/x", ""},
		{"app/rotates", "app/rotates", ""},
		{"app/jobs", "app", "jobs"},
		{"app/db/rollback", "app/db", "rollback"},
		{"app/p%61use", "app", "pause"},
		{"app/resume", "app", "resume"},
		{"...", "...", ""},
		{".app", ".app", ""},
		{long, long, ""},
		{long + "/rotate", long, "rotate"},
	} {
		name, verb, err := splitPath(c.raw)
		if err != nil || name.String() != c.name || verb != c.verb {
			t.Errorf("splitPath(%q) = %q, %q, %v; want %q, %q", c.raw, name, verb, err, c.name, c.verb)
		}
	}
}

func TestSplitPathRefuses(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]fault.Kind{
		"":                           fault.Invalid,
		"/":                          fault.Invalid,
		"/app":                       fault.Invalid,
		"app/":                       fault.Invalid,
		"app%2F":                     fault.Invalid,
		"app//db":                    fault.Invalid,
		"app/%2Fdb":                  fault.Invalid,
		".":                          fault.Invalid,
		"..":                         fault.Invalid,
		"app/../db":                  fault.Invalid,
		"app/%2e%2E/db":              fault.Invalid,
		"app/..%2fdb":                fault.Invalid,
		"app/./db":                   fault.Invalid,
		"app/rotate/":                fault.Invalid,
		"app//rotate":                fault.Invalid,
		"/rotate":                    fault.Invalid,
		"app/rotate/verify":          fault.Invalid,
		"rotate":                     fault.Invalid,
		"versions":                   fault.Invalid,
		"app%":                       fault.Invalid,
		"app%2":                      fault.Invalid,
		"app%zz":                     fault.Invalid,
		"app%00":                     fault.Invalid,
		"app\x00":                    fault.Invalid,
		"app%0a":                     fault.Invalid,
		"app%20db":                   fault.Invalid,
		"app+db":                     fault.Invalid,
		"app%252Fdb":                 fault.Invalid, // decoded once, not twice
		"app%3Fversion=1":            fault.Invalid,
		"%C3%A9":                     fault.Invalid,
		"%ff":                        fault.Invalid,
		`app\db`:                     fault.Invalid,
		"app;x=1":                    fault.Invalid,
		strings.Repeat("a", 256):     fault.Invalid,
		strings.Repeat("%61", 1<<16): fault.Invalid,
		"app/explain":                fault.NotFound,
		"app/metadata":               fault.NotFound,
		"app/undelete":               fault.NotFound,
		"app//jobs":                  fault.Invalid,
	} {
		name, verb, err := splitPath(raw)
		if err == nil {
			t.Errorf("splitPath(%.40q) = %q, %q; want an error", raw, name, verb)
			continue
		}
		if got := fault.KindOf(err); got != want {
			t.Errorf("splitPath(%.40q) is %v; want %v", raw, got, want)
		}
		if name != "" || verb != "" {
			t.Errorf("splitPath(%.40q) gives %q, %q beside its error", raw, name, verb)
		}
	}
}

func TestVerbsAreReserved(t *testing.T) {
	t.Parallel()
	for _, verb := range verbs {
		if !slices.Contains(secret.ReservedSegments(), verb) {
			t.Errorf("a secret could be named x/%s, and not be told from the operation", verb)
		}
	}
}

func FuzzSplitPath(f *testing.F) {
	for _, seed := range []string{
		"", "/", "app", "app/db", "app%2Fdb", "app/rotate", "app%2Frotate", "app/jobs", "a/../b", "a//b", "a/", "%00", "%",
		"%2", "%zz", "%252F", "app%20db", "app\"", "app%22\"", "%61pp", "a%3F", "é", "rotate", "app/verify", "app/versions", "%2e%2e", "a%2f%2e%2e%2fb",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		name, verb, err := splitPath(raw)
		// However a path is spelled, as a part of a URL it means the same.
		if u, parsed := url.ParseRequestURI(secretsPrefix + raw); parsed == nil && !strings.Contains(raw, "?") {
			n, v, urlErr := secretPath(u)
			if n != name || v != verb || fault.Message(urlErr) != fault.Message(err) || (urlErr == nil) != (err == nil) {
				t.Fatalf("%q in a URL means %q %q (%v), and %q %q (%v) by itself", raw, n, v, urlErr, name, verb, err)
			}
		}
		if err != nil {
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.NotFound {
				t.Fatalf("%q: %v", raw, err)
			}
			if name != "" || verb != "" {
				t.Fatalf("%q: something beside an error", raw)
			}
			return
		}
		if _, err := secret.ParseName(name.String()); err != nil {
			t.Fatalf("%q gives the name %q: %v", raw, name, err)
		}
		if verb != "" && !slices.Contains(verbs, verb) {
			t.Fatalf("%q gives the verb %q", raw, verb)
		}
		plain := name.String()
		if verb != "" {
			plain += "/" + verb
		}
		// However it was spelled, the plain spelling and the one with every slash escaped mean the same.
		for _, spelling := range []string{plain, strings.ReplaceAll(plain, "/", "%2F"), url.PathEscape(plain)} {
			n, v, err := splitPath(spelling)
			if err != nil || n != name || v != verb {
				t.Fatalf("%q means %q %q, but %q means %q %q (%v)", raw, name, verb, spelling, n, v, err)
			}
		}
	})
}

func TestCheckPath(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]error{
		"/":               errUnknownRoute,
		"/v1":             errUnknownRoute,
		"/v2/secrets":     errUnknownRoute,
		"/v1/roles/":      errUntidyPath,
		"/v1//roles":      errUntidyPath,
		"//v1":            errUntidyPath,
		"/v1/./roles":     errUntidyPath,
		"/v1/%2e%2e/x":    errUntidyPath,
		"/v1/x%2F":        errUntidyPath,
		"/v1/%zz":         errBadEscape,
		"*":               errUnknownRoute,
		"":                errUntidyPath,
		"/v1/secrets%2Fa": errUnknownRoute,
	} {
		if got := checkPath(raw); !errors.Is(got, want) {
			t.Errorf("checkPath(%q) = %v; want %v", raw, got, want)
		}
	}
	if err := checkPath("/v1/%00"); fault.KindOf(err) != fault.Invalid {
		t.Errorf("NUL: %v", err)
	}
}
