package access

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestI4_RulesDenyByDefault(t *testing.T) {
	t.Parallel()
	for claim, r := range map[string]Rules{
		"the zero value":                     {},
		"no permissions":                     NewRules(false, nil),
		"an action that is unknown":          NewRules(false, []Permission{{"verify", "*"}, {"", "*"}, {"READ", "*"}}),
		"a path that does not parse":         NewRules(false, []Permission{{AnyAction, ""}, {AnyAction, "**"}, {AnyAction, "/*"}, {AnyAction, "a/*/b"}, {AnyAction, "app/db "}}),
		"a permission for another secret":    NewRules(false, []Permission{{AnyAction, "app/db2"}, {AnyAction, "app/d"}, {AnyAction, "App/db"}}),
		"a permission for another folder":    NewRules(false, []Permission{{AnyAction, "app/db/*"}, {AnyAction, "apple*"}, {AnyAction, "b*"}}),
		"a permission that is not yet there": NewRules(false, make([]Permission, 3)),
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			for _, a := range append(Actions(), "", "verify") {
				if r.Allows(a, "app/db") {
					t.Errorf("%q is allowed", a)
				}
			}
			if r.AllowsAny("app/db") || r.IsAdmin() {
				t.Error("something is allowed")
			}
			if all, exact, prefixes := r.Scope(); all || slices.Contains(exact, "app/db") || slices.Contains(prefixes, "") {
				t.Errorf("the scope is %v, %q, %q", all, exact, prefixes)
			}
		})
	}

	t.Run("a path that does not parse reaches no query", func(t *testing.T) {
		t.Parallel()
		r := NewRules(false, []Permission{{AnyAction, ""}, {AnyAction, "%*"}, {AnyAction, "**"}, {AnyAction, "app' OR true"}, {Read, "app"}})
		if all, exact, prefixes := r.Scope(); all || !slices.Equal(exact, []string{"app"}) || len(prefixes) != 0 {
			t.Errorf("the scope is %v, %q, %q", all, exact, prefixes)
		}
	})

	t.Run("an unknown action and the empty name are denied to everyone", func(t *testing.T) {
		t.Parallel()
		for _, r := range []Rules{NewRules(true, nil), NewRules(false, []Permission{{AnyAction, "*"}})} {
			for _, a := range []Action{"", "verify", "Read", "**"} {
				if r.Allows(a, "app/db") {
					t.Errorf("%q is allowed", a)
				}
			}
			if r.Allows(Read, "") || r.AllowsAny("") {
				t.Error("the empty name is allowed")
			}
		}
	})

	t.Run("what is changed after the rules were made changes nothing", func(t *testing.T) {
		t.Parallel()
		perms := []Permission{{Read, "app/db"}}
		r := NewRules(false, perms)
		perms[0] = Permission{AnyAction, "*"}
		if r.Allows(Delete, "app/db") || !r.Allows(Read, "app/db") {
			t.Error("it does")
		}
	})
}

func TestRulesAllow(t *testing.T) {
	t.Parallel()
	r := NewRules(false, []Permission{
		{Read, "app/*"},
		{Update, "app/db"},
		{AnyAction, "mine/*"},
		{Rotate, "app/db*"},
		{Create, "*"},
		{Read, "exact"},
	})
	for name, want := range map[string][]Action{
		"app/web":   {Read, Create},
		"app/db":    {Read, Create, Update, Rotate},
		"app/db2":   {Read, Create, Rotate},
		"app":       {Create},
		"mine/a/b":  {Read, Create, Update, Delete, Rotate, Target, AnyAction},
		"mine":      {Create},
		"exact":     {Read, Create},
		"exact/not": {Create},
	} {
		for _, a := range Actions() {
			if got := r.Allows(a, name); got != slices.Contains(want, a) {
				t.Errorf("%s on %s: %v", a, name, got)
			}
		}
		if !r.AllowsAny(name) {
			t.Errorf("nothing is allowed on %s", name)
		}
	}

	t.Run("the star is allowed where each action is", func(t *testing.T) {
		t.Parallel()
		var perms []Permission
		for _, a := range Actions()[:6] {
			if NewRules(false, perms).Allows(AnyAction, "app/db") {
				t.Errorf("allowed by %v", perms)
			}
			perms = append(perms, Permission{a, "app/*"})
		}
		if !NewRules(false, perms).Allows(AnyAction, "app/db") {
			t.Error("denied with all of them")
		}
	})

	t.Run("an admin may do everything", func(t *testing.T) {
		t.Parallel()
		admin := NewRules(true, nil)
		for _, a := range Actions() {
			if !admin.Allows(a, "app/db") || !admin.AllowsAny("app/db") || !admin.IsAdmin() {
				t.Errorf("%s is denied", a)
			}
		}
		if NewRules(false, []Permission{{AnyAction, "*"}}).IsAdmin() {
			t.Error("who may do everything with secrets is an admin")
		}
	})
}

func TestRulesScope(t *testing.T) {
	t.Parallel()
	for claim, c := range map[string]struct {
		r        Rules
		all      bool
		exact    []string
		prefixes []string
	}{
		"nothing":                       {NewRules(false, nil), false, nil, nil},
		"an admin has all":              {NewRules(true, []Permission{{Read, "app/db"}}), true, nil, nil},
		"a star is all":                 {NewRules(false, []Permission{{Read, "app/db"}, {Rotate, "*"}}), true, nil, nil},
		"names and prefixes are sorted": {NewRules(false, []Permission{{Read, "b"}, {Read, "a"}, {Read, "z/*"}, {Read, "y*"}}), false, []string{"a", "b"}, []string{"y", "z/"}},
		"what is covered is left out": {
			NewRules(false, []Permission{{Read, "app/*"}, {Read, "app/db"}, {Read, "app/db/*"}, {Delete, "app/x*"}, {Read, "apple"}, {Read, "app"}, {Read, "app-2/*"}}),
			false,
			[]string{"app", "apple"},
			[]string{"app-2/", "app/"},
		},
		"one path with several actions is once": {NewRules(false, []Permission{{Read, "a"}, {Update, "a"}, {Read, "b*"}, {Update, "b*"}}), false, []string{"a"}, []string{"b"}},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			all, exact, prefixes := c.r.Scope()
			if all != c.all || !slices.Equal(exact, c.exact) || !slices.Equal(prefixes, c.prefixes) {
				t.Errorf("got %v, %q, %q", all, exact, prefixes)
			}
		})
	}
}

// The indexed rules and the scope must say what asking every permission in turn says.
func TestRulesAgreeWithTheirPermissions(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	word := func() string {
		var b strings.Builder
		for range 1 + random.IntN(4) {
			b.WriteByte("ab/"[random.IntN(3)])
		}
		return b.String()
	}
	asked := 0
	for range 3000 {
		var perms []Permission
		for range random.IntN(6) {
			path := word()
			if random.IntN(2) == 0 {
				path += "*"
			}
			if p, err := ParsePattern(path); err == nil {
				perms = append(perms, Permission{Actions()[random.IntN(7)], p})
			}
		}
		r := NewRules(false, perms)
		all, exact, prefixes := r.Scope()
		for range 20 {
			name, anything := word(), false
			for _, a := range Actions()[:6] {
				want := slices.ContainsFunc(perms, func(p Permission) bool {
					return (p.Action == a || p.Action == AnyAction) && matches(p.Path, name)
				})
				if got := r.Allows(a, name); got != want {
					t.Fatalf("%s on %q by %v: %v", a, name, perms, got)
				}
				anything = anything || want
				asked++
			}
			inScope := all || slices.Contains(exact, name) ||
				slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
			if r.AllowsAny(name) != anything || inScope != anything {
				t.Fatalf("%q by %v: any %v, in scope %v, want %v", name, perms, r.AllowsAny(name), inScope, anything)
			}
		}
	}
	if asked == 0 {
		t.Error("nothing was asked")
	}
}

// bigRules has 10,000 permissions.
func bigRules() Rules {
	var perms []Permission
	for i := range 5000 {
		perms = append(perms, Permission{Read, Pattern(fmt.Sprintf("team%d/*", i))}, Permission{Update, Pattern(fmt.Sprintf("team%d/db", i))})
	}
	return NewRules(false, perms)
}

// It counts allocations, which the testing package forbids beside parallel tests.
func TestRulesAllocateNothing(t *testing.T) {
	big, admin := bigRules(), NewRules(true, nil)
	if !big.Allows(Update, "team4999/db") || !big.Allows(Read, "team4999/web") || big.Allows(Update, "team4999/web") {
		t.Fatal("the rules are not those that are meant")
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, name := range []string{"team4999/db", "team77/web/x", "other", ""} {
			big.Allows(Read, name)
			big.Allows(AnyAction, name)
			big.AllowsAny(name)
			admin.Allows(Read, name)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRulesAllows(b *testing.B) {
	r := bigRules()
	for b.Loop() {
		r.Allows(Read, "team4999/db")
	}
}
