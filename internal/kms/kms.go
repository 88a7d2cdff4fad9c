// Package kms generates and unwraps data keys: the keys that seal secrets, and the roots of the integrity keys.
//
// A keeper holds one master key and gives out data keys, each wrapped under it and bound to an encryption context: pairs
// of text that say what the data key is for and that unwrapping must repeat. [Local] is the keeper for development.
//
// Invariants:
//   - I1: a plaintext data key exists only inside a sensitive.Bytes; errors and key ids tell nothing of keys.
//   - I4: what can't be unwrapped is an error. There is no fallback to another key or to a weaker check.
//   - I5: a wrapped data key opens only under the context that it was made with, so that it can't serve another secret,
//     another version or another purpose.
package kms

import (
	"errors"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// DataKeySize is the length of every data key, in bytes.
const DataKeySize = 32

// DataKey is a fresh 256-bit key. The caller releases Plaintext and stores Wrapped together with KeyID.
type DataKey struct {
	Plaintext sensitive.Bytes
	Wrapped   []byte
	KeyID     string // names the master key
}

// What a keeper's errors wrap. All of them are of kind fault.Internal but what comes of the caller's context.
var (
	// ErrInvalidCiphertext says that a wrapped key is damaged or belongs to another encryption context.
	ErrInvalidCiphertext = errors.New("kms: wrapped key does not open in this encryption context")
	// ErrUnknownKey says that a wrapped key was made under another master key.
	ErrUnknownKey = errors.New("kms: wrapped under a master key that is not this one")
	// ErrClosed says that the keeper was closed.
	ErrClosed = errors.New("kms: keeper is closed")
)
