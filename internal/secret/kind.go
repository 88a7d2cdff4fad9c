package secret

import "github.com/sealkeep/sealkeep/internal/fault"

// Kind says who changes a secret. It is fixed when the secret is created.
type Kind string

const (
	// Manual secrets change when someone with the action update puts new material.
	Manual Kind = "manual"
	// Automatic secrets are also rotated, on demand and on a schedule, with values that Sealkeep generates.
	Automatic Kind = "automatic"
)

// ParseKind knows "manual" and "automatic"; anything else is an error of kind Invalid.
func ParseKind(s string) (Kind, error) {
	switch k := Kind(s); k {
	case Manual, Automatic:
		return k, nil
	}
	return "", fault.New(fault.Invalid, "kind must be manual or automatic")
}

// Format says what a secret holds. It is fixed when the secret is created.
type Format string

const (
	// Opaque secrets hold one value, text or bytes.
	Opaque Format = "opaque"
	// Userpass secrets hold a user name and a password, sealed together.
	Userpass Format = "userpass"
)
