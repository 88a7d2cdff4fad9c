package model

import (
	"fmt"
	"slices"
	"strings"
)

// state is all that the model knows of one secret's name at one instant. It is a value: whatever changes it makes another one.
type state struct {
	there    bool
	away     bool // somebody renamed it by hand
	current  int64
	versions []version // from 1 on
	passed   set       // graces that have
}

// version is one version's row.
type version struct {
	value  string // "" while nobody knows: it was generated, and the answer that held it was lost
	phase  int    // isCurrent, hasEnded, or the id of the grace that it is in
	broken bool   // it doesn't open
	hidden bool   // the row is gone, or says that it isn't valid
}

// What a version's phase is beside the id of a grace.
const (
	isCurrent = 0
	hasEnded  = -1
)

// set is a set of small numbers.
type set []uint64

func (s set) has(n int) bool { return n>>6 < len(s) && s[n>>6]>>(n&63)&1 == 1 }

func (s set) with(n int) set {
	grown := make(set, max(len(s), n>>6+1))
	copy(grown, s)
	grown[n>>6] |= 1 << (n & 63)
	return grown
}

func (s state) equal(o state) bool {
	return s.there == o.there && s.away == o.away && s.current == o.current &&
		slices.Equal(s.versions, o.versions) && slices.Equal(s.passed, o.passed)
}

func (s state) String() string {
	if !s.there || s.away {
		return "absent"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "version %d is current", s.current)
	for i, v := range s.versions {
		if s.valid(int64(i+1)) || v.broken || v.hidden {
			fmt.Fprintf(&b, "; %d holds %q", i+1, v.value)
			if v.broken {
				b.WriteString(" broken")
			}
			if v.hidden {
				b.WriteString(" hidden")
			}
		}
	}
	return b.String()
}

// present tells whether the name names a secret.
func (s state) present() bool { return s.there && !s.away }

// valid tells whether a version may be served or matched, if it opens.
func (s state) valid(n int64) bool {
	if n < 1 || n > int64(len(s.versions)) {
		return false
	}
	v := s.versions[n-1]
	return !v.hidden && (v.phase == isCurrent || v.phase > 0 && !s.passed.has(v.phase))
}

// intact tells whether the secret's row points to a version that is current and opens.
func (s state) intact() bool {
	if s.current < 1 || s.current > int64(len(s.versions)) {
		return false
	}
	v := s.versions[s.current-1]
	return v.phase == isCurrent && !v.hidden && !v.broken
}

// verifiable tells whether every valid version opens, and the secret's row points to the current one.
func (s state) verifiable() bool {
	for i, v := range s.versions {
		if v.broken && s.valid(int64(i+1)) {
			return false
		}
	}
	return s.intact()
}

// change returns the state with one version changed.
func (s state) change(n int64, do func(*version)) (state, bool) {
	if n < 1 || n > int64(len(s.versions)) {
		return s, false
	}
	s.versions = slices.Clone(s.versions)
	do(&s.versions[n-1])
	return s, true
}

// holds tells whether version n holds that value. A value that nobody knew is learnt from the first answer that shows it.
func (s state) holds(n int64, value string, generated bool) (state, bool) {
	switch s.versions[n-1].value {
	case value:
		return s, true
	case "":
		if generated {
			return s.change(n, func(v *version) { v.value = value })
		}
	}
	return s, false
}
