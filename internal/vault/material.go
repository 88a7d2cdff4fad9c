package vault

import (
	"fmt"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// present tells whether any material was given.
func (g Given) present() bool {
	return !g.Value.IsZero() || !g.Binary.IsZero() || !g.Username.IsZero() || !g.Password.IsZero()
}

// check refuses combinations that no format has.
func (g Given) check() error {
	switch {
	case !g.Value.IsZero() && !g.Binary.IsZero():
		return fault.New(fault.Invalid, "send value or value_base64, not both")
	case (!g.Value.IsZero() || !g.Binary.IsZero()) && (!g.Username.IsZero() || !g.Password.IsZero()):
		return fault.New(fault.Invalid, "send a value, or a username and password, not both")
	}
	return nil
}

func (g Given) opaque() secret.Material {
	if !g.Binary.IsZero() {
		return secret.Material{Format: secret.Opaque, Value: g.Binary.Clone(), Binary: true}
	}
	return secret.Material{Format: secret.Opaque, Value: g.Value.Clone()}
}

// initial makes a new secret's material from what was given; an automatic secret's missing value is generated. The caller
// releases it.
func (v *Vault) initial(kind secret.Kind, policy secret.PasswordPolicy, g Given) (secret.Material, error) {
	if err := g.check(); err != nil {
		return secret.Material{}, err
	}
	var m secret.Material
	switch {
	case !g.Value.IsZero() || !g.Binary.IsZero():
		m = g.opaque()
	case !g.Username.IsZero():
		m = secret.Material{Format: secret.Userpass, Username: g.Username.Clone(), Value: g.Password.Clone()}
	case !g.Password.IsZero():
		return secret.Material{}, fault.New(fault.Invalid, "a password needs its username")
	default:
		m = secret.Material{Format: secret.Opaque}
	}
	if m.Value.IsZero() {
		if kind != secret.Automatic {
			m.Release()
			return secret.Material{}, fault.New(fault.Invalid, "a manual secret needs a value, or a username and a password")
		}
		generated, err := v.generate(policy)
		if err != nil {
			m.Release()
			return secret.Material{}, err
		}
		m.Value = generated
	}
	return validated(m)
}

// changed makes an existing secret's next material from what was given. current is needed when part of it stays.
func changed(format secret.Format, g Given, current *secret.Material) (secret.Material, error) {
	if err := g.check(); err != nil {
		return secret.Material{}, err
	}
	switch format {
	case secret.Opaque:
		if !g.Username.IsZero() || !g.Password.IsZero() {
			return secret.Material{}, fault.New(fault.Invalid, "this secret holds a value: a username or password can't replace it")
		}
		return validated(g.opaque())
	case secret.Userpass:
		if !g.Value.IsZero() || !g.Binary.IsZero() {
			return secret.Material{}, fault.New(fault.Invalid, "this secret holds a username and a password: a value can't replace them")
		}
		m := secret.Material{Format: secret.Userpass, Username: g.Username.Clone(), Value: g.Password.Clone()}
		if m.Username.IsZero() {
			m.Username = current.Username.Clone()
		}
		if m.Value.IsZero() {
			m.Value = current.Value.Clone()
		}
		return validated(m)
	default:
		return secret.Material{}, fault.Wrap(fault.Internal, fmt.Errorf("unknown format %q", format), "")
	}
}

func validated(m secret.Material) (secret.Material, error) {
	if err := m.Validate(); err != nil {
		m.Release()
		return secret.Material{}, err
	}
	return m, nil
}

func (v *Vault) generate(policy secret.PasswordPolicy) (sensitive.Bytes, error) {
	value, err := policy.Generate(v.cfg.Random)
	if err != nil {
		return sensitive.Bytes{}, fault.Wrap(fault.Internal, fmt.Errorf("generating a value: %w", err), "")
	}
	return value, nil
}

// settingsOf checks what a request says of a secret beside its material.
func settingsOf(kind secret.Kind, description string, intervalSecs *int64, rotation secret.Rotation, target *secret.Target, graceSecs int64, metadata map[string]string) (secret.Settings, error) {
	s := secret.Settings{
		Kind: kind, Description: description, GracePeriod: secret.Seconds(graceSecs), CustomMetadata: metadata,
		Rotation: rotation, Target: target.Canonical(),
	}
	if intervalSecs != nil {
		if *intervalSecs <= 0 {
			return s, fault.New(fault.Invalid, "rotation_interval_secs is at least 1")
		}
		s.RotationInterval = secret.Seconds(*intervalSecs)
	}
	return s, s.Validate()
}

func wholeSecondsOf(d time.Duration) *int64 {
	if d == 0 {
		return nil
	}
	s := int64(d / time.Second)
	return &s
}
