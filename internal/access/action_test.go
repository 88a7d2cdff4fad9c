package access

import (
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestActions(t *testing.T) {
	t.Parallel()

	t.Run("they are those that roles are made of", func(t *testing.T) {
		t.Parallel()
		want := []Action{"read", "create", "update", "delete", "rotate", "target", "*"}
		if got := Actions(); !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
		for _, a := range Actions() {
			if got, err := ParseAction(string(a)); err != nil || got != a {
				t.Errorf("%s: %s, %v", a, got, err)
			}
		}
		clear(Actions())
		if !slices.Equal(Actions(), want) {
			t.Error("who gets the list can change it")
		}
	})

	t.Run("each is its own, and the star is all of them", func(t *testing.T) {
		t.Parallel()
		var all actionSet
		for _, a := range Actions() {
			if a == AnyAction {
				continue
			}
			if a.set() == 0 || all&a.set() != 0 {
				t.Errorf("%s has the bits %b", a, a.set())
			}
			all |= a.set()
		}
		if all != AnyAction.set() {
			t.Errorf("the star has the bits %b, all have %b", AnyAction.set(), all)
		}
	})

	t.Run("I4 anything else is refused", func(t *testing.T) {
		t.Parallel()
		for _, s := range []string{"", "Read", "read ", "verify", "admin", "**", "read,update", "read\x00"} {
			got, err := ParseAction(s)
			wantFault(t, err, fault.Invalid, "read, create, update, delete, rotate, target and *")
			if got != "" {
				t.Errorf("%q gave %q", s, got)
			}
		}
	})
}

func TestParseEntityName(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"a", "Z", "0", "admin", "ci-deployer", "a.b_c-d", "9.", strings.Repeat("a", 64)} {
		if got, err := ParseEntityName(s); err != nil || got != s {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", ".a", "-a", "_a", "a b", "a/b", "a*", "é", "aé", "a\n", "a\x00", " a", strings.Repeat("a", 65)} {
		got, err := ParseEntityName(s)
		wantFault(t, err, fault.Invalid, "1 to 64 bytes", "beginning with a letter or digit")
		if got != "" {
			t.Errorf("%q gave %q", s, got)
		}
	}
}
