package secret

import (
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestParseName(t *testing.T) {
	t.Parallel()
	for claim, s := range map[string]string{
		"one byte is enough":                       "a",
		"slashes separate segments":                "prod/db/primary",
		"every allowed byte is allowed":            "ABCDEFGHIJKLMNOPQRSTUVWXYZ/abcdefghijklmnopqrstuvwxyz/0123456789._-",
		"255 bytes fit":                            strings.Repeat("a", 255),
		"dots are fine beside other characters":    ".env/a..b/...",
		"a reserved word may stand before the end": "rotate/verify/x",
		"a reserved word counts whole":             "app/rotate2",
		"a reserved word counts in its case":       "app/Rotate",
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			name, err := ParseName(s)
			if err != nil || string(name) != s || name.String() != s {
				t.Errorf("ParseName(%q) = %q, %v", s, name, err)
			}
		})
	}
}

func TestI4_ParseNameRefuses(t *testing.T) {
	t.Parallel()
	for claim, c := range map[string]struct{ name, says string }{
		"the empty name":                {"", "empty"},
		"256 bytes":                     {strings.Repeat("a", 256), "longer"},
		"a leading slash":               {"/a", "empty segment"},
		"a trailing slash":              {"a/", "empty segment"},
		"two slashes":                   {"a//b", "empty segment"},
		"a slash alone":                 {"/", "empty segment"},
		"a segment of one dot":          {"a/./b", "can't be '.'"},
		"a segment of two dots":         {"a/../b", "can't be '.'"},
		"two dots at the end":           {"a/..", "can't be '.'"},
		"a dot alone":                   {".", "can't be '.'"},
		"a space":                       {"a b", "another character"},
		"a star":                        {"a/*", "another character"},
		"a NUL":                         {"a\x00b", "another character"},
		"a line break":                  {"a\nb", "another character"},
		"a backslash":                   {`a\b`, "another character"},
		"a percent sign":                {"a%2Fb", "another character"},
		"a letter beyond ASCII":         {"café", "another character"},
		"a full-width slash":            {"a／b", "another character"},
		"invalid UTF-8":                 {"a\xff", "another character"},
		"a reserved word alone":         {"rotate", "last segment"},
		"a reserved word at the end":    {"app/metadata", "last segment"},
		"the longest name plus a slash": {strings.Repeat("a", 255) + "/", "longer"},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			name, err := ParseName(c.name)
			message := wantFault(t, err, fault.Invalid)
			if name != "" {
				t.Errorf("gave the name %q beside the error", name)
			}
			if !strings.Contains(message, c.says) || !strings.Contains(message, "1 to 255 bytes of letters, digits") {
				t.Errorf("the message doesn't tell the rule and what breaks it (%q): %s", c.says, message)
			}
		})
	}
}

func TestReservedSegments(t *testing.T) {
	t.Parallel()

	t.Run("each one is refused at the end and allowed before it", func(t *testing.T) {
		t.Parallel()
		want := []string{"rotate", "verify", "versions", "jobs", "rollback", "pause", "resume", "undelete", "explain", "metadata"}
		if got := ReservedSegments(); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for _, word := range ReservedSegments() {
			if _, err := ParseName("app/" + word); err == nil {
				t.Errorf("app/%s is accepted", word)
			}
			if _, err := ParseName(word + "/app"); err != nil {
				t.Errorf("%s/app is refused: %v", word, err)
			}
		}
	})

	t.Run("changing the list that was given changes no rule", func(t *testing.T) {
		t.Parallel()
		clear(ReservedSegments())
		if _, err := ParseName("rotate"); err == nil {
			t.Error("rotate is accepted")
		}
	})
}

func TestI11_NameErrorsDoNotRepeatTheInput(t *testing.T) {
	t.Parallel()
	const canary = "hunter2canary"
	for _, s := range []string{canary + "/", canary + " ", canary + "//x", canary + "/..", canary + strings.Repeat("x", 255), canary + "/rotate"} {
		_, err := ParseName(s)
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("ParseName: %v", err)
		}
	}
	if err := CheckPrefix(canary + " "); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("CheckPrefix: %v", err)
	}
}

func TestCheckPrefix(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "a", "app/", "app/ro", "app/rotate", "app/.", "app/..", ".", "a/b/c/", strings.Repeat("a", 255)} {
		if err := CheckPrefix(s); err != nil {
			t.Errorf("%q is refused: %v", s, err)
		}
	}
	for _, s := range []string{"/", "/a", "a//", "a//b", "a/./", "../", "a/../b", "a b", "a*", "é", "a\x00", strings.Repeat("a", 256)} {
		wantFault(t, CheckPrefix(s), fault.Invalid)
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{
		"", "a", "prod/db", "/a", "a/", "a//b", "a/../b", ".", "..", "app/rotate", "rotate/app", "a b", "a%2Fb",
		"é", "a\x00", strings.Repeat("a", 255), strings.Repeat("a", 256), ".env/...",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := ParseName(s)
		if err != nil {
			wantFault(t, err, fault.Invalid)
			return
		}
		// The rules once more, in other words.
		if string(name) != s || len(s) < 1 || len(s) > 255 {
			t.Fatalf("%q became %q", s, name)
		}
		segments := strings.Split(s, "/")
		for _, segment := range segments {
			if segment == "" || segment == "." || segment == ".." ||
				strings.Trim(segment, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
				t.Fatalf("%q has the segment %q", s, segment)
			}
		}
		if slices.Contains(ReservedSegments(), segments[len(segments)-1]) {
			t.Fatalf("%q ends in a reserved word", s)
		}
		for i := range s {
			if err := CheckPrefix(s[:i]); err != nil {
				t.Fatalf("%q is a name and its beginning %q is no prefix: %v", s, s[:i], err)
			}
		}
	})
}
