package access

import (
	"maps"
	"slices"
	"strings"
)

// Permission allows one action on the secrets that match a path.
type Permission struct {
	Action Action
	Path   Pattern
}

// Rules are what a role allows, ready to be asked. The zero value allows nothing. It is immutable, and safe for
// concurrent use.
type Rules struct {
	admin    bool
	all      actionSet            // by "*"
	exact    map[string]actionSet // by name
	prefixes map[string]actionSet // by what stands before the '*'
	// lengths are those of the prefixes, each once, ascending: asking looks up the beginning of a name at each of
	// them, so the work depends on how many lengths there are, at most 254, and not on how many patterns.
	lengths []int
}

// NewRules makes the rules of a role. isAdmin allows every action on every secret, as who can edit roles could
// grant it to themselves anyway. A permission whose action or path doesn't parse grants nothing (I4). perms is
// not kept.
func NewRules(isAdmin bool, perms []Permission) Rules {
	r := Rules{admin: isAdmin, exact: map[string]actionSet{}, prefixes: map[string]actionSet{}}
	for _, p := range perms {
		if _, err := ParsePattern(string(p.Path)); err != nil {
			continue
		}
		set := p.Action.set()
		if set == 0 {
			continue
		}
		switch prefix, isPrefix := p.Path.prefix(); {
		case isPrefix && prefix == "":
			r.all |= set
		case isPrefix:
			r.prefixes[prefix] |= set
		default:
			r.exact[string(p.Path)] |= set
		}
	}
	for prefix := range r.prefixes {
		r.lengths = append(r.lengths, len(prefix))
	}
	slices.Sort(r.lengths)
	r.lengths = slices.Compact(r.lengths)
	return r
}

// IsAdmin tells whether the role may manage roles and tokens and read the audit trail.
func (r Rules) IsAdmin() bool { return r.admin }

// Allows tells whether the action is allowed on the secret of that name, by any of the role's permissions or by
// several together: AnyAction is allowed where each single action is. An unknown action and the empty name are not.
func (r Rules) Allows(a Action, name string) bool {
	want := a.set()
	return want != 0 && r.granted(name)&want == want
}

// AllowsAny tells whether at least one action is allowed on the secret of that name.
func (r Rules) AllowsAny(name string) bool { return r.granted(name) != 0 }

func (r Rules) granted(name string) actionSet {
	switch {
	case name == "":
		return 0
	case r.admin:
		return AnyAction.set()
	}
	got := r.all | r.exact[name]
	for _, n := range r.lengths {
		if n > len(name) {
			break
		}
		got |= r.prefixes[name[:n]]
	}
	return got
}

// Scope gives the names on which AllowsAny is true, as a filter for a query: all of them, or those listed in exact
// and those that begin with one of prefixes. Both lists are sorted and without anything that another entry covers.
// They are the caller's. All three empty means no name.
func (r Rules) Scope() (all bool, exact, prefixes []string) {
	if r.admin || r.all != 0 {
		return true, nil, nil
	}
	for _, p := range slices.Sorted(maps.Keys(r.prefixes)) {
		// In byte order whatever begins with p follows it at once, so comparing with the last one kept is enough.
		if n := len(prefixes); n == 0 || !strings.HasPrefix(p, prefixes[n-1]) {
			prefixes = append(prefixes, p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.exact)) {
		covered := slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
		if !covered {
			exact = append(exact, name)
		}
	}
	return false, exact, prefixes
}
