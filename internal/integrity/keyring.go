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
	vaultID uuid.UUID

	mu      sync.RWMutex // held for reading while a root is in use, for writing by Close
	roots   map[uuid.UUID]unwrapped
	active  map[Purpose]uuid.UUID
	rowKeys map[rowKeyName]*rowKey // those derived so far
}

type unwrapped struct {
	purpose Purpose
	key     sensitive.Bytes
}

// OpenKeyring unwraps the roots of the purposes asked for. The others stay wrapped: a process asks for what it needs and
// gets by with a keeper that may unwrap no more. roots are in the order in which they were made: the last of a purpose is its active one, the others are there
// for what was MACed under them. A purpose without a root is [ErrNoRoot], a root that contradicts itself [ErrBadRoot];
// the keeper's errors are passed on. Close the keyring when nothing derives keys from it any more.
func OpenKeyring(ctx context.Context, keeper Keeper, vaultID uuid.UUID, roots []Root, purposes ...Purpose) (*Keyring, error) {
	k := &Keyring{
		vaultID: vaultID, roots: make(map[uuid.UUID]unwrapped), active: make(map[Purpose]uuid.UUID), rowKeys: make(map[rowKeyName]*rowKey),
	}
	wanted := make(map[Purpose]bool, len(purposes))
	for _, p := range purposes {
		wanted[p] = true
	}
	for _, root := range roots {
		if !wanted[root.Purpose] {
			continue
		}
		if err := k.add(ctx, keeper, root); err != nil {
			k.Close()
			return nil, fmt.Errorf("integrity: open the %s root %s: %w", root.Purpose, root.KeyID, err)
		}
	}
	for _, p := range purposes {
		if _, ok := k.active[p]; !ok {
			k.Close()
			return nil, fmt.Errorf("integrity: open the keyring for purpose %q: %w", string(p), ErrNoRoot)
		}
	}
	return k, nil
}

func (k *Keyring) add(ctx context.Context, keeper Keeper, root Root) error {
	if _, dup := k.roots[root.KeyID]; dup {
		return ErrBadRoot
	}
	key, err := keeper.Decrypt(ctx, root.Wrapped, root.KMSKeyID, encryptionContext(k.vaultID, root.KeyID, root.Purpose))
	if err != nil {
		return err
	}
	k.roots[root.KeyID] = unwrapped{root.Purpose, key} // first, so that Close releases it whatever follows
	k.active[root.Purpose] = root.KeyID
	if err := checkRoot(key); err != nil {
		return err
	}
	if root.Purpose != PurposeCheckpoint {
		return nil
	}
	public, err := checkpointPublicKey(key, k.vaultID, root.KeyID)
	if err != nil {
		return err
	}
	if !bytes.Equal(public, root.PublicKey) {
		return ErrBadRoot
	}
	return nil
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

// Close zeroes the roots. It is idempotent; afterwards the keyring has no roots. Keys derived before go on working.
func (k *Keyring) Close() {
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
