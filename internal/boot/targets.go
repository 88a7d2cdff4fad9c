package boot

import "github.com/sealkeep/sealkeep/internal/rotation"

// newTargets makes what speaks to the targets of rotations.
func newTargets(cfg *Rotator) rotation.Targets {
	return rotation.NewTargets(rotation.Reach{PublicURL: cfg.PublicURL, Allowed: cfg.WebhookAllowed})
}
