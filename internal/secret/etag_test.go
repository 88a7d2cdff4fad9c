package secret

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
)

var uid = [16]byte{0x01, 0x8F, 0xAB, 0xCD, 0xEF, 0x01, 0x70, 0x23, 0x84, 0x56, 0x78, 0x9A, 0xBC, 0xDE, 0xF0, 0x12}

func TestETag(t *testing.T) {
	t.Parallel()
	if got, want := ETag(7, uid), `"7-018fabcd-ef01-7023-8456-789abcdef012"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := ETag(math.MaxInt64, [16]byte{}), `"9223372036854775807-00000000-0000-0000-0000-000000000000"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	other := uid
	other[15]++
	if ETag(1, uid) == ETag(1, other) {
		t.Error("a name made anew has the old tag")
	}
	tags, all, err := ParseETags(ETag(7, uid))
	if err != nil || all || !slices.Equal(tags, []string{ETag(7, uid)}) {
		t.Errorf("parsed as %q, %v, %v", tags, all, err)
	}
}

func TestParseETags(t *testing.T) {
	t.Parallel()
	for claim, c := range map[string]struct {
		header string
		tags   []string
		all    bool
	}{
		"a star is any":                           {`*`, nil, true},
		"white space around a star is nothing":    {" \t* ", nil, true},
		"one tag":                                 {`"1-a"`, []string{`"1-a"`}, false},
		"a weak tag keeps its mark":               {`W/"1-a"`, []string{`W/"1-a"`}, false},
		"a list, with and without spaces":         {`"a","b" ,  W/"c"`, []string{`"a"`, `"b"`, `W/"c"`}, false},
		"a comma within quotes separates nothing": {`"a,b", "c"`, []string{`"a,b"`, `"c"`}, false},
		"a backslash escapes nothing":             {`"a\","b"`, []string{`"a\"`, `"b"`}, false},
		"an empty tag":                            {`""`, []string{`""`}, false},
		"empty elements are skipped":              {`, "a",,"b", `, []string{`"a"`, `"b"`}, false},
		"a star within quotes is a tag":           {`"*"`, []string{`"*"`}, false},
		"bytes beyond ASCII":                      {"\"\x80\xff\"", []string{"\"\x80\xff\""}, false},
		"64 tags":                                 {strings.Repeat(`"a",`, 64), slices.Repeat([]string{`"a"`}, 64), false},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			tags, all, err := ParseETags(c.header)
			if err != nil || all != c.all || !slices.Equal(tags, c.tags) {
				t.Errorf("got %q, %v, %v", tags, all, err)
			}
		})
	}

	for claim, c := range map[string]struct{ header, says string }{
		"nothing":                   {"", "leave it out"},
		"white space":               {" \t ", "leave it out"},
		"commas alone":              {", ,", "leave it out"},
		"a tag without quotes":      {"1-a", "with its quotes"},
		"single quotes":             {"'1-a'", "with its quotes"},
		"an open quote":             {`"1-a`, "with its quotes"},
		"a quote alone":             {`"`, "with its quotes"},
		"a weak mark alone":         {`W/`, "with its quotes"},
		"a weak mark in lower case": {`w/"a"`, "with its quotes"},
		"a space in a tag":          {`"a b"`, "with its quotes"},
		"a control in a tag":        {"\"a\x01\"", "with its quotes"},
		"DEL in a tag":              {"\"a\x7f\"", "with its quotes"},
		"a star beside a tag":       {`*, "a"`, "with its quotes"},
		"a tag beside a star":       {`"a", *`, "with its quotes"},
		"two stars":                 {`**`, "with its quotes"},
		"tags without a comma":      {`"a" "b"`, "separate them by commas"},
		"tags side by side":         {`"a""b"`, "separate them by commas"},
		"65 tags":                   {strings.Repeat(`"a",`, 65), "at most 64"},
	} {
		t.Run("refuses "+claim, func(t *testing.T) {
			t.Parallel()
			tags, all, err := ParseETags(c.header)
			message := wantFault(t, err, fault.Invalid)
			if tags != nil || all {
				t.Errorf("gave %q and %v beside the error", tags, all)
			}
			if !strings.Contains(message, c.says) {
				t.Errorf("%q is not in: %s", c.says, message)
			}
		})
	}
}

func TestETagComparison(t *testing.T) {
	t.Parallel()
	// The table of RFC 9110, section 8.8.3.2.
	for _, c := range []struct {
		a, b         string
		strong, weak bool
	}{
		{`W/"1"`, `W/"1"`, false, true},
		{`W/"1"`, `W/"2"`, false, false},
		{`W/"1"`, `"1"`, false, true},
		{`"1"`, `"1"`, true, true},
	} {
		for _, d := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			if got := MatchesStrong([]string{`"0"`, d[0]}, d[1]); got != c.strong {
				t.Errorf("strong %s and %s: %v", d[0], d[1], got)
			}
			if got := MatchesWeak([]string{`"0"`, d[0]}, d[1]); got != c.weak {
				t.Errorf("weak %s and %s: %v", d[0], d[1], got)
			}
		}
	}
	if MatchesStrong(nil, `"1"`) || MatchesWeak(nil, `"1"`) {
		t.Error("an empty list matches")
	}
}

func FuzzParseETags(f *testing.F) {
	for _, s := range []string{
		"", "*", `"a"`, `W/"a"`, `"a", W/"b" ,,"c,d"`, `"a" "b"`, `"a`, `W/`, `*,"a"`, `"*"`, "\"\x80\"", ETag(1, uid), `"a\"`, `,`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		tags, all, err := ParseETags(header)
		if err != nil {
			wantFault(t, err, fault.Invalid)
			if tags != nil || all {
				t.Fatalf("%q and %v beside an error", tags, all)
			}
			return
		}
		if all == (len(tags) > 0) || len(tags) > maxETags {
			t.Fatalf("%q gave %q and %v: it must be one of the two", header, tags, all)
		}
		if all {
			return
		}
		again, all, err := ParseETags(strings.Join(tags, ", "))
		if err != nil || all || !slices.Equal(tags, again) {
			t.Fatalf("%q came back as %q, %v, %v", tags, again, all, err)
		}
		for _, tag := range tags {
			if strong := MatchesStrong(tags, tag); strong == strings.HasPrefix(tag, "W/") || !MatchesWeak(tags, tag) {
				t.Fatalf("%q in %q: strong %v", tag, tags, strong)
			}
		}
	})
}
