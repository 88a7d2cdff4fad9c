package vault

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
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
		rotation, err := r.rotation()
		if err != nil {
			return nil, err
		}
		settings, err := settingsOf(kind, r.Description, r.RotationIntervalSecs, rotation, r.Target, r.GracePeriodSecs, r.CustomMetadata)
		if err != nil {
			return nil, err
		}
		if r.RotateOnCreate && kind != secret.Automatic {
			return nil, fault.New(fault.Invalid, "a manual secret can't rotate_on_create: leave it out, or create an automatic secret")
		}
		if err := a.mayTarget(ctx, settings, secret.Settings{}); err != nil {
			return nil, err
		}
		o, err := a.once(r.IdempotencyKey, r.canonical(settings), r.Given.Value, r.Given.Binary, r.Given.Username, r.Given.Password)
		if err != nil {
			return nil, err
		}
		made, err := o.do(ctx, func() (*Rotated, error) {
			material, err := v.initial(kind, settings.Rotation.Policy, r.Given)
			if err != nil {
				return nil, err
			}
			s, err := v.insert(ctx, a, name, settings, material, r.RotateOnCreate, o)
			if err != nil || s.Material == nil {
				material.Release()
			}
			return &Rotated{Secret: s}, err
		})
		if err != nil {
			return nil, err
		}
		return made.Secret, nil
	})
}

// canonical is what a request says beside its name and its material, in one form whatever it was written in.
func (r *CreateRequest) canonical(s secret.Settings) [][]byte {
	return [][]byte{
		[]byte(s.Kind), []byte(s.Description), strconv.AppendInt(nil, int64(s.RotationInterval/time.Second), 10),
		strconv.AppendInt(nil, int64(s.GracePeriod/time.Second), 10), s.Rotation.Encode(), s.Target.Encode(),
		secret.EncodeCustomMetadata(s.CustomMetadata), strconv.AppendBool(nil, r.RotateOnCreate),
	}
}

// insert seals and stores the first version. The material is the answer's only if the caller may read it.
func (v *Vault) insert(ctx context.Context, a *attempt, name secret.Name, settings secret.Settings, m secret.Material, dueNow bool, o *once) (*Secret, error) {
	if err := suits(settings, m); err != nil {
		return nil, err
	}
	id, err := uuid.NewRandomFromReader(v.cfg.Random)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, fmt.Errorf("making a secret id: %w", err), "")
	}
	sealed, err := v.seal(ctx, id, name.String(), 1, m)
	if err != nil {
		return nil, err
	}
	disclosed := a.mayRead()
	a.noteSecret(id, 1, 1)
	a.note("disclosed", disclosed)
	// The database's time as it was told last: asking in the transaction would cost a round trip.
	createdAt := v.trail.DatabaseTime()
	params, err := v.newSecret(id, name, settings, m.Format, sealed, createdAt, dueNow)
	if err != nil {
		return nil, err
	}
	err = a.change(ctx, func(ctx context.Context, tx *postgres.Tx) error {
		if err := o.take(ctx, tx); err != nil {
			return err
		}
		since := v.seen.begin()
		err := tx.InsertSecret(ctx, params)
		if postgres.IsUniqueViolation(err) {
			return fault.New(fault.Conflict, "a secret of this name exists already: PUT changes it").WithCode("already_exists")
		}
		if err != nil {
			return err
		}
		if dueNow {
			if err := tx.WakeRotators(ctx); err != nil {
				return err
			}
		}
		// The name is free. Whoever bore it must have been deleted by the vault: one that somebody removed isn't replaced in silence.
		if err := a.alarm(ctx, name.String(), nil, v.checkMissing(ctx, tx, name.String(), since)); err != nil {
			return err
		}
		return o.keep(ctx, tx, id, &sealed.uid, nil)
	})
	if err != nil {
		return nil, err
	}
	v.seen.made(&db.VaultSecret{ID: id, Name: params.Name, Revision: 1, Mac: params.Mac})
	s := &Secret{
		Name: name.String(), Kind: settings.Kind, Format: m.Format, Version: 1, VersionUID: sealed.uid, CreatedAt: createdAt,
	}
	if disclosed {
		s.Material = &m
	}
	return s, nil
}

// newSecret makes the rows of a secret and its first version, with their MACs.
func (v *Vault) newSecret(id uuid.UUID, name secret.Name, settings secret.Settings, format secret.Format, sealed *sealedVersion, at time.Time, dueNow bool) (db.InsertSecretParams, error) {
	var none db.InsertSecretParams
	versionMAC, _, err := v.keys.MAC(sealed.row(id, secret.Current, at))
	if err != nil {
		return none, err
	}
	digest := integrity.DigestVersions([][]byte{versionMAC})
	row := db.VaultSecret{
		ID: id, Name: name.String(), Kind: string(settings.Kind), Format: string(format), Description: settings.Description,
		RotationIntervalSecs: wholeSecondsOf(settings.RotationInterval), GracePeriodSecs: int64(settings.GracePeriod / time.Second),
		CurrentVersion: 1, NextRotationAt: nextRotation(settings, id, at), Target: settings.Target.Encode(), Rotation: settings.Rotation.Encode(),
		CustomMetadata: secret.EncodeCustomMetadata(settings.CustomMetadata),
		CreatedAt:      at, UpdatedAt: at, Revision: 1, VersionsDigest: digest[:],
	}
	if dueNow {
		row.NextRotationAt = &at
	}
	mac, keyID, err := v.keys.MAC(secretOf(&row))
	if err != nil {
		return none, err
	}
	return db.InsertSecretParams{
		ID: id, Name: row.Name, Kind: row.Kind, Format: row.Format, Description: row.Description,
		RotationIntervalSecs: row.RotationIntervalSecs, GracePeriodSecs: row.GracePeriodSecs, NextRotationAt: row.NextRotationAt,
		Target: row.Target, Rotation: row.Rotation,
		CustomMetadata: row.CustomMetadata, CreatedAt: at, VersionsDigest: row.VersionsDigest, Mac: mac, KeyID: &keyID,
		VersionUid: sealed.uid, KmsKeyID: sealed.key.KeyID, WrappedDek: sealed.key.Wrapped, Nonce: sealed.sealed.Nonce,
		Ciphertext: sealed.sealed.Ciphertext, VersionMac: versionMAC,
	}, nil
}

// nextRotation is when a secret is due that has just got its value; nil is never.
func nextRotation(s secret.Settings, id uuid.UUID, now time.Time) *time.Time {
	p := plan{Rotation: s.Rotation, schedule: s.Schedule()}
	return p.after(now, id)
}
