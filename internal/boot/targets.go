package boot

import (
	"context"

	"github.com/sealkeep/sealkeep/internal/rotation"
	"github.com/sealkeep/sealkeep/internal/target"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// newTargets makes what speaks to the targets of rotations.
func newTargets(*Rotator) rotation.Targets { return noTargets{} }

// noTargets refuses all that is asked of a target. It is tried again, as another release may know it.
type noTargets struct{}

var errNoTargets = &target.Error{Class: target.Transient, Message: "this rotator speaks to no targets"}

func (noTargets) Apply(context.Context, *vault.Delivery) error { return errNoTargets }
func (noTargets) Test(context.Context, *vault.Delivery) error  { return errNoTargets }
func (noTargets) Try(context.Context, *vault.Delivery) error   { return errNoTargets }
