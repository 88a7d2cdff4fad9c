package vault

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// Create makes a new secret. The answer holds the value only if the caller may also read it.
func (v *Vault) Create(ctx context.Context, c Caller, r CreateRequest) (*Secret, error) {
	name, err := secret.ParseName(r.Name)
	if err != nil {
		return nil, err
	}
	op := operation{action: ActionCreate, rule: needsRight, right: access.Create, name: name.String()}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*Secret, error) {
		kind, err := secret.ParseKind(r.Kind)
		if err != nil {
			return nil, err
		}
		settings, err := settingsOf(kind, r.Description, r.RotationIntervalSecs, r.GracePeriodSecs, r.CustomMetadata)
		if err != nil {
			return nil, err
		}
		material, err := v.initial(kind, r.Given)
		if err != nil {
			return nil, err
		}
		s, err := v.insert(ctx, a, name, settings, material)
		if err != nil || s.Material == nil {
			material.Release()
		}
		return s, err
	})
}

// insert seals and stores the first version. The material is the answer's only if the caller may read it.
func (v *Vault) insert(ctx context.Context, a *attempt, name secret.Name, settings secret.Settings, m secret.Material) (*Secret, error) {
	id, err := uuid.NewRandomFromReader(v.cfg.Random)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, fmt.Errorf("making a secret id: %w", err), "")
	}
	sealed, err := v.seal(ctx, id, name.String(), 1, m)
	if err != nil {
		return nil, err
	}
	disclosed := a.mayRead()
	a.version = 1
	a.note("disclosed", disclosed)
	var createdAt time.Time
	err = a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
		var err error
		createdAt, err = tx.InsertSecret(ctx, db.InsertSecretParams{
			ID: id, Name: name.String(), Kind: string(settings.Kind), Format: string(m.Format),
			Description: settings.Description, RotationIntervalSecs: wholeSecondsOf(settings.RotationInterval),
			GracePeriodSecs: int64(settings.GracePeriod / time.Second), NextRotationInSecs: secondsOf(settings.RotationInterval),
			CustomMetadata: secret.EncodeCustomMetadata(settings.CustomMetadata),
		})
		if postgres.IsUniqueViolation(err) {
			return fault.New(fault.Conflict, "a secret of this name exists already: PUT changes it").WithCode("already_exists")
		}
		if err != nil {
			return err
		}
		_, err = tx.InsertVersion(ctx, sealed.params(id, 1))
		return err
	})
	if err != nil {
		return nil, err
	}
	s := &Secret{
		Name: name.String(), Kind: settings.Kind, Format: m.Format, Version: 1, VersionUID: sealed.uid, CreatedAt: createdAt,
	}
	if disclosed {
		s.Material = &m
	}
	return s, nil
}
