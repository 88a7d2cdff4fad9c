package vault

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/envelope"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// dekContext is the encryption context that a version's DEK is wrapped under.
func dekContext(p envelope.Place) kms.Context {
	return kms.NewContext(
		kms.Text("use", "secret"), kms.UUID("secret_id", p.SecretID), kms.Text("name", p.Name), kms.Int("version", p.Version),
	)
}

// sealedVersion is a version ready to be inserted.
type sealedVersion struct {
	version int64
	uid     uuid.UUID
	key     kms.DataKey // its plaintext is already released
	sealed  envelope.Sealed
}

// seal makes a new version's ciphertext under a fresh DEK. It calls the KMS, so it must not run inside a transaction.
func (v *Vault) seal(ctx context.Context, secretID uuid.UUID, name string, version int64, m secret.Material) (*sealedVersion, error) {
	uid, err := uuid.NewRandomFromReader(v.cfg.Random)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, fmt.Errorf("making a version id: %w", err), "")
	}
	place := envelope.Place{SecretID: secretID, Name: name, Version: version, VersionUID: uid}
	key, err := v.keeper.GenerateDataKey(ctx, dekContext(place))
	if err != nil {
		return nil, keeperFault("making a data key", err)
	}
	defer key.Plaintext.Release()
	plaintext := m.Encode()
	defer plaintext.Release()
	sealed, err := v.sealer.Seal(key.Plaintext, place, plaintext)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, fmt.Errorf("sealing: %w", err), "")
	}
	return &sealedVersion{version: version, uid: uid, key: key, sealed: sealed}, nil
}

// row is the version's row as its MAC has it, made at that time.
func (s *sealedVersion) row(secretID uuid.UUID, state secret.State, at time.Time) integrity.Version {
	hash := sha256.Sum256(s.sealed.Ciphertext)
	return integrity.Version{
		SecretID: secretID, Version: s.version, UID: s.uid, State: string(state), KMSKeyID: s.key.KeyID, WrappedDEK: s.key.Wrapped,
		Nonce: s.sealed.Nonce, CiphertextSHA256: hash[:], CreatedAt: at, WrappedAt: at,
	}
}

// keeperFault keeps the keeper's own kind and makes everything else unavailable: it fails closed.
func keeperFault(doing string, err error) error {
	var known *fault.Error
	if errors.As(err, &known) {
		return fault.Wrap(known.Kind, fmt.Errorf("%s: %w", doing, err), "")
	}
	return fault.Wrap(fault.Unavailable, fmt.Errorf("%s: %w", doing, err), "")
}

// errDamaged means that what the database holds can't be what the vault wrote.
var errDamaged = errors.New("the row doesn't verify")

// errKeptDamage is damage of a row that was kept, which may have been mended since: it is looked up again.
var errKeptDamage = errors.New("a row that was kept doesn't verify")

// errNotCurrent is damage that shows before anything is opened.
var errNotCurrent = fmt.Errorf("%w: the current version's row is missing or isn't current", errDamaged)

// stored is a version as it is stored, with the secret that it is of.
type stored struct {
	place      envelope.Place
	format     string
	kmsKeyID   string
	wrappedDEK []byte
	sealed     envelope.Sealed
}

// storedAs is a version of a secret that was looked up.
func storedAs(s *sealedSecret, v *postgres.SealedVersion) stored {
	return stored{
		place:  envelope.Place{SecretID: s.ID, Name: s.Name, Version: v.Version, VersionUID: v.UID},
		format: s.Format, kmsKeyID: v.KMSKeyID, wrappedDEK: v.WrappedDEK,
		sealed: envelope.Sealed{Nonce: v.Nonce, Ciphertext: v.Ciphertext},
	}
}

// open opens a stored version and checks that it is what its row says. Any error means that nothing of it may be served.
func (v *Vault) open(ctx context.Context, s stored) (secret.Material, error) {
	dek, err := v.keeper.Decrypt(ctx, s.wrappedDEK, s.kmsKeyID, dekContext(s.place))
	if err != nil {
		// An unknown key is damage, too: the keyring, which is open, is under the same one.
		if errors.Is(err, kms.ErrInvalidCiphertext) || errors.Is(err, kms.ErrUnknownKey) {
			return secret.Material{}, fmt.Errorf("%w: its DEK doesn't unwrap in its place: %w", errDamaged, err)
		}
		return secret.Material{}, keeperFault("unwrapping a data key", err)
	}
	defer dek.Release()
	plaintext, err := envelope.Open(dek, s.place, s.sealed)
	if err != nil {
		return secret.Material{}, fmt.Errorf("%w: its ciphertext doesn't open in its place: %w", errDamaged, err)
	}
	defer plaintext.Release()
	m, err := secret.DecodeMaterial(plaintext)
	if err != nil {
		return secret.Material{}, fmt.Errorf("%w: its content can't be decoded: %w", errDamaged, err)
	}
	if string(m.Format) != s.format {
		m.Release()
		return secret.Material{}, fmt.Errorf("%w: it holds another format than the secret's", errDamaged)
	}
	return m, nil
}

// openCurrent opens the current version of a secret that was looked up, and refuses one that isn't.
func (v *Vault) openCurrent(ctx context.Context, s *sealedSecret) (secret.Material, error) {
	current := s.current()
	if current == nil {
		return secret.Material{}, errNotCurrent
	}
	return v.open(ctx, storedAs(s, current))
}

// alarm turns damage into a generic failure for the caller, and into a log line, a metric and an outcome for everyone who
// watches. Other errors pass.
func (a *attempt) alarm(ctx context.Context, name string, version *int64, err error) error {
	if !errors.Is(err, errDamaged) {
		return err
	}
	if !a.freshKeys && errors.Is(err, integrity.ErrUnknownKey) {
		return errKeysBehind
	}
	a.outcome = outcomeUnverifiable
	var number int64
	if version != nil {
		number = *version
	}
	a.version = number
	a.vault.metrics.integrity.WithLabelValues(a.op.action).Inc()
	a.vault.log.ErrorContext(ctx, "integrity alarm: a stored row doesn't verify",
		"secret", name, "version", number, "action", a.op.action, "error", err)
	return fault.Wrap(fault.Internal, err, "")
}
