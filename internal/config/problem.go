package config

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Variable string // the variable to change
	Message  string // what to write there; it never holds a secret
}

// String gives the problem as one line.
func (p Problem) String() string { return p.Variable + ": " + p.Message }

// Error lists everything that is wrong with a configuration.
type Error struct {
	Problems []Problem // sorted by variable; at least one
}

// NewError makes an error of all problems, or nil if there are none.
func NewError(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	sorted := slices.Clone(problems)
	slices.SortStableFunc(sorted, func(a, b Problem) int { return strings.Compare(a.Variable, b.Variable) })
	return &Error{Problems: slices.Compact(sorted)}
}

// Error gives a line per problem.
func (e *Error) Error() string {
	var text strings.Builder
	if len(e.Problems) == 1 {
		text.WriteString("the configuration has a problem:")
	} else {
		fmt.Fprintf(&text, "the configuration has %d problems:", len(e.Problems))
	}
	for _, p := range e.Problems {
		text.WriteString("\n  " + p.String())
	}
	return text.String()
}
