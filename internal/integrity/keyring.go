package integrity

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// labelCheckpoint is the HKDF label of the log's Ed25519 seed.
const labelCheckpoint = "sealkeep/checkpoint/v1"

var (
	// ErrNoRoot says that a keyring lacks a root: its purpose has none, or no root has that key id.
	ErrNoRoot = errors.New("integrity: no such root in the keyring")
	// ErrBadRoot says that a stored root contradicts itself: its public key is not its own, or its id is not unique.
	ErrBadRoot = errors.New("integrity: the stored root is not genuine")
)

// Keyring holds unwrapped roots. It is safe for concurrent use.
type Keyring struct {
	vaultID  uuid.UUID
	purposes map[Purpose]bool // that were asked for

	mu      sync.RWMutex // held for reading while a root is in use, for writing by Close and when roots are taken up
	roots   map[uuid.UUID]unwrapped
	active  map[Purpose]uuid.UUID
	retired map[uuid.UUID]bool     // roots of rows that verify nothing any more, for good
	rowKeys map[rowKeyName]*rowKey // those derived so far

	follower follower
}

type unwrapped struct {
	purpose Purpose
	key     sensitive.Bytes
}

// OpenKeyring unwraps the roots of the purposes asked for. The others stay wrapped: a process asks for what it needs and
// gets by with a keeper that may unwrap no more. roots are in the order in which they were made: the last of a purpose that
// wasn't retired is its active one, the others are there for what was MACed under them. A root of rows that was retired isn't
// unwrapped. A purpose without a root is [ErrNoRoot], a root that contradicts itself [ErrBadRoot];
// the keeper's errors are passed on. Close the keyring when nothing derives keys from it any more.
func OpenKeyring(ctx context.Context, keeper Keeper, vaultID uuid.UUID, roots []Root, purposes ...Purpose) (*Keyring, error) {
	k := &Keyring{vaultID: vaultID, purposes: make(map[Purpose]bool, len(purposes))}
	for _, p := range purposes {
		k.purposes[p] = true
	}
	k.empty()
	if err := k.unwrap(ctx, keeper, roots, nil); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

func (k *Keyring) empty() {
	k.roots, k.active = make(map[uuid.UUID]unwrapped), make(map[Purpose]uuid.UUID)
	k.retired, k.rowKeys = make(map[uuid.UUID]bool), make(map[rowKeyName]*rowKey)
}

// unwrap takes up roots into a keyring that has none, and that nobody else knows yet. What held has isn't unwrapped again.
func (k *Keyring) unwrap(ctx context.Context, keeper Keeper, roots []Root, held map[uuid.UUID]unwrapped) error {
	for _, root := range roots {
		if !k.purposes[root.Purpose] {
			continue
		}
		if err := k.add(ctx, keeper, root, held); err != nil {
			return fmt.Errorf("integrity: open the %s root %s: %w", root.Purpose, root.KeyID, err)
		}
	}
	for p := range k.purposes {
		if _, ok := k.active[p]; !ok {
			return fmt.Errorf("integrity: open the keyring for purpose %q: %w", string(p), ErrNoRoot)
		}
	}
	return nil
}

func (k *Keyring) add(ctx context.Context, keeper Keeper, root Root, held map[uuid.UUID]unwrapped) error {
	if _, dup := k.roots[root.KeyID]; dup || k.retired[root.KeyID] {
		return ErrBadRoot
	}
	if root.RetiredAt != nil && root.Purpose == PurposeRow {
		k.retired[root.KeyID] = true
		return nil
	}
	if one, ok := held[root.KeyID]; ok {
		if one.purpose != root.Purpose {
			return ErrBadRoot
		}
		k.roots[root.KeyID] = one
	} else {
		key, err := keeper.Decrypt(ctx, root.Wrapped, root.KMSKeyID, encryptionContext(k.vaultID, root.KeyID, root.Purpose))
		if err != nil {
			return err
		}
		k.roots[root.KeyID] = unwrapped{root.Purpose, key} // first, so that Close releases it whatever follows
		if err := checkRoot(key); err != nil {
			return err
		}
	}
	if root.RetiredAt == nil {
		k.active[root.Purpose] = root.KeyID
	}
	if root.Purpose != PurposeCheckpoint {
		return nil
	}
	public, err := checkpointPublicKey(k.roots[root.KeyID].key, k.vaultID, root.KeyID)
	if err != nil {
		return err
	}
	if !bytes.Equal(public, root.PublicKey) {
		return ErrBadRoot
	}
	return nil
}

// CheckRoots verifies the rows of a keyring, of whatever purposes: each must have a MAC under the active row root, and under no older
// one, so that who learns a root that was replaced vouches for no key with it. The first that isn't so is an error that names it.
func (k *Keyring) CheckRoots(roots []Root) error {
	active, ok := k.ActiveKeyID(PurposeRow)
	if !ok {
		return fmt.Errorf("integrity: check the keyring: %w", ErrNoRoot)
	}
	for i := range roots {
		err := k.Check(roots[i].Row(), roots[i].MAC, roots[i].MACKeyID)
		if err == nil && *roots[i].MACKeyID != active {
			err = ErrForged
		}
		if err != nil {
			return fmt.Errorf("the key %s in vault.keyring isn't as the vault wrote it; somebody changed it: %w", roots[i].KeyID, err)
		}
	}
	return nil
}

func (k *Keyring) isRetired(keyID uuid.UUID) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.retired[keyID]
}

// VaultID returns the id of the vault whose keys these are.
func (k *Keyring) VaultID() uuid.UUID { return k.vaultID }

// ActiveKeyID returns the id of the root that new MACs of the purpose are made under, if the keyring has one.
func (k *Keyring) ActiveKeyID(p Purpose) (uuid.UUID, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	id, ok := k.active[p]
	return id, ok
}

// StreamKey derives the key of an audit stream from the audit root of the given id, active or not. It is [ErrNoRoot] if
// the keyring has no audit root of that id. The key outlives the keyring; release it.
func (k *Keyring) StreamKey(keyID, streamID uuid.UUID) (*StreamKey, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	root, ok := k.roots[keyID]
	if !ok || root.purpose != PurposeAudit {
		return nil, fmt.Errorf("integrity: audit key %s: %w", keyID, ErrNoRoot)
	}
	key, err := derive(root.key, k.vaultID, canon.LabelAuditRecord, keyID, streamID)
	if err != nil {
		return nil, err
	}
	defer key.Release()
	return newStreamKey(key), nil
}

// Close zeroes the roots. It is idempotent; afterwards the keyring has no roots, and follows nothing. Keys derived before go on
// working.
func (k *Keyring) Close() {
	k.follower.stop()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, root := range k.roots {
		root.key.Release()
	}
	clear(k.roots)
	clear(k.active)
	clear(k.rowKeys)
}

// derive returns HKDF-SHA256 (RFC 5869) of the root with the vault id as salt and, as info, the label, a zero byte and
// the ids: 32 bytes. The zero byte keeps a label from running into the ids; those have a fixed length.
func derive(root sensitive.Bytes, vaultID uuid.UUID, label string, ids ...uuid.UUID) (sensitive.Bytes, error) {
	info := append([]byte(label), 0)
	for _, id := range ids {
		info = append(info, id[:]...)
	}
	var key []byte
	var err error
	sensitive.Do(func() { key, err = hkdf.Key(sha256.New, root.Reveal(), vaultID[:], string(info), sha256.Size) })
	if err != nil {
		return sensitive.Bytes{}, fmt.Errorf("integrity: derive a key: %w", err)
	}
	return sensitive.Take(key), nil
}
