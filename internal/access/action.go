package access

import (
	"slices"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// Action is what a permission allows to do with a secret.
type Action string

// The actions. Reading includes verify; Target is setting what a rotation changes beside the secret itself.
const (
	Read      Action = "read"
	Create    Action = "create"
	Update    Action = "update"
	Delete    Action = "delete"
	Rotate    Action = "rotate"
	Target    Action = "target"
	AnyAction Action = "*"
)

// actions is in the order in which they are shown.
var actions = []Action{Read, Create, Update, Delete, Rotate, Target, AnyAction}

// Actions lists all actions, "*" last. The slice is the caller's.
func Actions() []Action { return slices.Clone(actions) }

// ParseAction knows the actions that Actions lists; anything else is an error of kind Invalid.
func ParseAction(s string) (Action, error) {
	if a := Action(s); a.set() != 0 {
		return a, nil
	}
	return "", fault.New(fault.Invalid, "action must be one of read, create, update, delete, rotate, target and *")
}

// actionSet is a set of single actions.
type actionSet uint8

// set gives the single actions that a stands for: all of them for "*", none for what is unknown.
func (a Action) set() actionSet {
	switch a {
	case Read:
		return 1 << 0
	case Create:
		return 1 << 1
	case Update:
		return 1 << 2
	case Delete:
		return 1 << 3
	case Rotate:
		return 1 << 4
	case Target:
		return 1 << 5
	case AnyAction:
		return 1<<6 - 1
	}
	return 0
}
