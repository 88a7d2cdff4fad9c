// Package integrity holds the keys that say what in the database is genuine.
//
// There is a random root for each purpose, wrapped by the KMS. From it the keys in use are derived: one for each audit
// stream, and the seed of the transparency log's signing key.
//
// Invariants:
//   - I6: whoever has only the database can make no MAC: roots are stored wrapped, in encryption contexts that no DEK
//     has, and name their vault, their purpose and their own id, so that none serves in another's place.
//   - I10: every audit stream has a key of its own; a record MACed for one stream verifies in no other.
//   - I4: a keyring opens whole or not at all.
//   - I1: roots and derived keys never leave this package; they are zeroed on Close and Release.
package integrity

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Purpose is what a root is for. The names are stored and are part of encryption contexts.
type Purpose string

// The purposes.
const (
	PurposeRow         Purpose = "row"         // MACs of rows and of the set of grants
	PurposeAudit       Purpose = "audit"       // MACs of audit streams
	PurposeIdempotency Purpose = "idempotency" // MACs of requests that may be repeated
	PurposeCheckpoint  Purpose = "checkpoint"  // the signing key of the transparency log
)

// Purposes returns every purpose, in a fixed order.
func Purposes() []Purpose {
	return []Purpose{PurposeRow, PurposeAudit, PurposeIdempotency, PurposeCheckpoint}
}

// Keeper generates and unwraps data keys; a KMS or a stand-in for one.
type Keeper interface {
	// GenerateDataKey returns a fresh 256-bit key, also wrapped and bound to the encryption context.
	GenerateDataKey(ctx context.Context, encryptionContext kms.Context) (kms.DataKey, error)
	// Decrypt unwraps a data key; the caller releases it.
	Decrypt(ctx context.Context, wrapped []byte, keyID string, encryptionContext kms.Context) (sensitive.Bytes, error)
}

// Root is a root as the keyring table stores it. It holds nothing that has to be kept from anyone.
type Root struct {
	KeyID     uuid.UUID
	Purpose   Purpose
	Wrapped   []byte
	PublicKey []byte // of the checkpoint purpose alone: Ed25519, 32 bytes (RFC 8032)
	KMSKeyID  string // names the master key that Wrapped is under

	CreatedAt time.Time
	RetiredAt *time.Time // since then a root of rows verifies nothing any more; nil is never
	MAC       []byte     // of the table's row, which Row gives
	MACKeyID  *uuid.UUID // the row root that MAC is under
}

// Row is what the MAC of the root's row in the table speaks of.
func (r Root) Row() Key {
	return Key{
		KeyID: r.KeyID, Purpose: r.Purpose, Wrapped: r.Wrapped, PublicKey: r.PublicKey, KMSKeyID: r.KMSKeyID,
		CreatedAt: r.CreatedAt, RetiredAt: r.RetiredAt,
	}
}

// NewRoots makes a vault's roots, one for each of [Purposes] in that order. The data key that the keeper generates is
// the root. random gives the key ids; nil means randomness.Reader. The keeper's errors are passed on.
func NewRoots(ctx context.Context, keeper Keeper, vaultID uuid.UUID, random io.Reader) ([]Root, error) {
	return NewRootsFor(ctx, keeper, vaultID, random, Purposes()...)
}

// NewRootsFor is NewRoots for some purposes.
func NewRootsFor(ctx context.Context, keeper Keeper, vaultID uuid.UUID, random io.Reader, purposes ...Purpose) ([]Root, error) {
	if random == nil {
		random = randomness.Reader
	}
	roots := make([]Root, 0, len(purposes))
	for _, p := range purposes {
		keyID, err := uuid.NewRandomFromReader(random)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, fmt.Errorf("integrity: make an id for the %s root: %w", p, err), "")
		}
		root, err := newRoot(ctx, keeper, vaultID, keyID, p)
		if err != nil {
			return nil, fmt.Errorf("integrity: make the %s root: %w", p, err)
		}
		roots = append(roots, root)
	}
	return roots, nil
}

// Filler wraps a stored data key again: see kms.Recoverable.
type Filler interface {
	Fill(ctx context.Context, stored kms.Stored, encryptionContext kms.Context) (wrapped []byte, keyID string, err error)
}

// FillRoot gives what is to be stored in the place of a root's wrapped key that isn't whole, and the master key that its row is to name. The filler's
// errors are passed on.
func FillRoot(ctx context.Context, filler Filler, vaultID uuid.UUID, root Root) (wrapped []byte, keyID string, err error) {
	return filler.Fill(ctx, root.Stored(), encryptionContext(vaultID, root.KeyID, root.Purpose))
}

// Stored is the root's wrapped key. When it was wrapped isn't known: created_at stays when a wrapping is added.
func (r *Root) Stored() kms.Stored { return kms.Stored{Wrapped: r.Wrapped, KeyID: r.KMSKeyID} }

func newRoot(ctx context.Context, keeper Keeper, vaultID, keyID uuid.UUID, p Purpose) (Root, error) {
	key, err := keeper.GenerateDataKey(ctx, encryptionContext(vaultID, keyID, p))
	if err != nil {
		return Root{}, err
	}
	defer key.Plaintext.Release()
	if err := checkRoot(key.Plaintext); err != nil {
		return Root{}, err
	}
	root := Root{KeyID: keyID, Purpose: p, Wrapped: key.Wrapped, KMSKeyID: key.KeyID}
	if p == PurposeCheckpoint {
		root.PublicKey, err = checkpointPublicKey(key.Plaintext, vaultID, keyID)
	}
	return root, err
}

// encryptionContext binds a wrapped root to its vault, purpose and id. "use" sets it apart from every DEK's context.
func encryptionContext(vaultID, keyID uuid.UUID, p Purpose) kms.Context {
	return kms.NewContext(
		kms.Text("use", "integrity"), kms.Text("purpose", string(p)), kms.UUID("key_id", keyID), kms.UUID("vault_id", vaultID),
	)
}

func checkRoot(root sensitive.Bytes) error {
	if root.Len() != kms.DataKeySize {
		return fmt.Errorf("integrity: the keeper gave a root of %d bytes, not %d", root.Len(), kms.DataKeySize)
	}
	return nil
}

// checkpointPublicKey derives the Ed25519 seed of the log's key from the checkpoint root and returns its public key.
func checkpointPublicKey(root sensitive.Bytes, vaultID, keyID uuid.UUID) ([]byte, error) {
	seed, err := derive(root, vaultID, labelCheckpoint, keyID)
	if err != nil {
		return nil, err
	}
	defer seed.Release()
	public := make([]byte, ed25519.PublicKeySize)
	sensitive.Do(func() {
		private := ed25519.NewKeyFromSeed(seed.Reveal())
		copy(public, private[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
		sensitive.Zero(private)
	})
	return public, nil
}
