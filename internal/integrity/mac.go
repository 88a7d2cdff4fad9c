package integrity

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"sync"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

var (
	// ErrForged says that a row isn't as the vault wrote it: it has no MAC, or another row's, or was edited.
	ErrForged = errors.New("integrity: the row's mac isn't the vault's")
	// ErrUnknownKey says that a row names a row key that the keyring doesn't hold.
	ErrUnknownKey = errors.New("integrity: the row's mac is under a key that the keyring doesn't hold")
	// ErrRetired says that a row names a row key that was retired: no row that the vault wrote does any more.
	ErrRetired = errors.New("integrity: the row's mac is under a key that was retired")
)

// Row is what a MAC speaks of: a row of a table that carries authority, all its columns but the MAC.
type Row interface {
	label() string
	// fields appends every column but mac and key_id, in the order that docs/formats.md lists.
	fields(dst []byte) []byte
}

// MAC returns the row's MAC under the active row root, and the id of that root, which is stored beside it and is part of what is
// MACed. It is [ErrNoRoot] if the keyring was opened without the row purpose.
func (k *Keyring) MAC(row Row) ([]byte, uuid.UUID, error) {
	keyID, ok := k.ActiveKeyID(PurposeRow)
	if !ok {
		return nil, uuid.Nil, fmt.Errorf("integrity: make a mac: %w", ErrNoRoot)
	}
	key, err := k.rowKey(row.label(), keyID)
	if err != nil {
		return nil, uuid.Nil, err
	}
	sum := key.mac(row, keyID)
	return sum[:], keyID, nil
}

// Check tells whether mac and keyID, as they are stored with the row, are the vault's. Anything else is [ErrForged], or
// [ErrUnknownKey], or [ErrRetired]. A nil mac or keyID, a NULL, never passes.
func (k *Keyring) Check(row Row, mac []byte, keyID *uuid.UUID) error {
	if keyID == nil || len(mac) != sha256.Size {
		return ErrForged
	}
	key, err := k.rowKey(row.label(), *keyID)
	if errors.Is(err, ErrNoRoot) {
		if k.isRetired(*keyID) {
			return ErrRetired
		}
		return ErrUnknownKey
	}
	if err != nil {
		return err
	}
	if sum := key.mac(row, *keyID); !hmac.Equal(sum[:], mac) {
		return ErrForged
	}
	return nil
}

// rowKeyName names a row key: one for each label and root.
type rowKeyName struct {
	label string
	keyID uuid.UUID
}

// rowKey is the derived key of one label under one root, in states of HMAC that are ready to be used.
type rowKey struct{ states sync.Pool }

type rowState struct {
	mac     hash.Hash
	message []byte
	sum     [sha256.Size]byte
}

// rowKey derives a row key at its first use and keeps it.
func (k *Keyring) rowKey(label string, keyID uuid.UUID) (*rowKey, error) {
	name := rowKeyName{label, keyID}
	k.mu.RLock()
	key := k.rowKeys[name]
	k.mu.RUnlock()
	if key != nil {
		return key, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.rowKeys[name]; key != nil {
		return key, nil
	}
	root, ok := k.roots[keyID]
	if !ok || root.purpose != PurposeRow {
		return nil, fmt.Errorf("integrity: row key %s: %w", keyID, ErrNoRoot)
	}
	derived, err := derive(root.key, k.vaultID, label, keyID)
	if err != nil {
		return nil, err
	}
	defer derived.Release()
	var keyed hash.Hash
	sensitive.Do(func() { keyed = hmac.New(sha256.New, derived.Reveal()) })
	cloner, ok := keyed.(hash.Cloner)
	if !ok {
		return nil, errors.New("integrity: crypto/hmac gives no state that can be cloned")
	}
	key = &rowKey{}
	key.states.New = func() any {
		state, err := cloner.Clone()
		if err != nil {
			panic("integrity: " + err.Error()) // HMAC over SHA-256 can always be cloned
		}
		return &rowState{mac: state}
	}
	k.rowKeys[name] = key
	return key, nil
}

// maxKeptMessage bounds the buffers that are kept between uses.
const maxKeptMessage = 16 << 10

func (key *rowKey) mac(row Row, keyID uuid.UUID) [sha256.Size]byte {
	state, _ := key.states.Get().(*rowState)
	defer key.states.Put(state)
	state.message = canon.UUID(row.fields(canon.Start(state.message[:0], row.label())), keyID)
	state.mac.Reset()
	_, _ = state.mac.Write(state.message) // hash.Hash never returns an error
	state.mac.Sum(state.sum[:0])
	if cap(state.message) > maxKeptMessage {
		state.message = nil
	}
	return state.sum
}
