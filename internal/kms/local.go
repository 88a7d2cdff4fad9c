package kms

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// A blob that Local wrapped: one version byte, the nonce, the sealed data key with its tag.
const (
	localVersion     = 0x01
	localBlobSize    = 1 + chacha20poly1305.NonceSizeX + DataKeySize + chacha20poly1305.Overhead
	localKeyIDPrefix = "local:"
	localKeyIDBytes  = 8

	// HKDF infos; the first is also the label of the additional data.
	labelLocalWrap  = "sealkeep/local-wrap/v1"
	labelLocalKeyID = "sealkeep/local-key-id/v1"
)

// Local wraps data keys under a master key that this process holds. It is for development: whoever reads the process's
// configuration reads the master key, which a real KMS never gives out. It is safe for concurrent use.
//
// Wrapping is XChaCha20-Poly1305 with random nonces (any number of keys can be wrapped under one master key), with the
// key id and the encryption context as additional data.
type Local struct {
	keyID  string
	random io.Reader

	mu      sync.RWMutex // held for reading while wrapKey is in use, for writing by Close
	wrapKey sensitive.Bytes
	closed  bool
}

// source is a reader that shows nothing of itself when the keeper is printed, while others draw.
type source func([]byte) (int, error)

func (s source) Read(p []byte) (int, error) { return s(p) }

// NewLocal returns a keeper under a master key of exactly 32 bytes. It keeps nothing of master, which stays the
// caller's to release. random gives keys and nonces, which are tested; nil means randomness.Reader.
func NewLocal(master sensitive.Bytes, random io.Reader) (*Local, error) {
	if master.Len() != DataKeySize {
		return nil, fmt.Errorf("kms: the local master key has %d bytes, not %d", master.Len(), DataKeySize)
	}
	if sensitive.Equal(master, sensitive.Take(make([]byte, DataKeySize))) {
		// What an unset or wiped buffer looks like.
		return nil, errors.New("kms: the local master key is all zeros")
	}
	l := &Local{random: source(randomness.New(random).Read)}
	var err error
	sensitive.Do(func() { err = l.derive(master.Reveal()) })
	if err != nil {
		return nil, fmt.Errorf("kms: derive from the local master key: %w", err)
	}
	return l, nil
}

// derive sets the wrapping key and the key id, which are independent: the id discloses nothing of the key.
func (l *Local) derive(master []byte) error {
	wrapKey, err := hkdf.Key(sha256.New, master, nil, labelLocalWrap, chacha20poly1305.KeySize)
	if err != nil {
		return err
	}
	l.wrapKey = sensitive.Take(wrapKey)
	id, err := hkdf.Key(sha256.New, master, nil, labelLocalKeyID, localKeyIDBytes)
	if err != nil {
		l.wrapKey.Release()
		return err
	}
	l.keyID = localKeyIDPrefix + hex.EncodeToString(id)
	return nil
}

// KeyID returns "local:" and 16 hexadecimal digits that are derived one way from the master key, so that a wrong master
// key is told from a damaged row.
func (l *Local) KeyID() string { return l.keyID }

// GenerateDataKey returns a fresh 256-bit key, wrapped and bound to encryptionContext. A random source that fails or
// runs short is an error of kind Internal; a done ctx is one of kind Unavailable.
func (l *Local) GenerateDataKey(ctx context.Context, encryptionContext Context) (DataKey, error) {
	if err := ctx.Err(); err != nil {
		return DataKey{}, fault.Wrap(fault.Unavailable, err, "")
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return DataKey{}, fault.Wrap(fault.Internal, ErrClosed, "")
	}
	var key DataKey
	var err error
	sensitive.Do(func() { key, err = l.generate(l.additionalData(encryptionContext)) })
	if err != nil {
		return DataKey{}, fault.Wrap(fault.Internal, fmt.Errorf("kms: generate a data key: %w", err), "")
	}
	return key, nil
}

func (l *Local) generate(aad []byte) (DataKey, error) {
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	if _, err := io.ReadFull(l.random, nonce); err != nil {
		return DataKey{}, err
	}
	key := sensitive.Take(make([]byte, DataKeySize))
	if _, err := io.ReadFull(l.random, key.Reveal()); err != nil {
		key.Release()
		return DataKey{}, err
	}
	wrapped, err := l.wrap(nonce, key, aad)
	if err != nil {
		key.Release()
		return DataKey{}, err
	}
	return DataKey{Plaintext: key, Wrapped: wrapped, KeyID: l.keyID}, nil
}

func (l *Local) wrap(nonce []byte, key sensitive.Bytes, aad []byte) ([]byte, error) {
	aead, err := l.aead()
	if err != nil {
		return nil, err
	}
	blob := append(append(make([]byte, 0, localBlobSize), localVersion), nonce...)
	return aead.Seal(blob, nonce, key.Reveal(), aad), nil
}

// WrapKey wraps a data key that exists already, bound to encryptionContext; it stays the caller's. Errors are as
// GenerateDataKey's, and of kind Internal for a key that isn't of 256 bits.
func (l *Local) WrapKey(ctx context.Context, key sensitive.Bytes, encryptionContext Context) (wrapped []byte, keyID string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", fault.Wrap(fault.Unavailable, err, "")
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case l.closed:
		return nil, "", fault.Wrap(fault.Internal, ErrClosed, "")
	case key.Len() != DataKeySize:
		return nil, "", fault.Wrap(fault.Internal, errKeySize, "")
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	if _, err := io.ReadFull(l.random, nonce); err != nil {
		return nil, "", fault.Wrap(fault.Internal, fmt.Errorf("kms: wrap a data key: %w", err), "")
	}
	sensitive.Do(func() { wrapped, err = l.wrap(nonce, key, l.additionalData(encryptionContext)) })
	if err != nil {
		return nil, "", fault.Wrap(fault.Internal, fmt.Errorf("kms: wrap a data key: %w", err), "")
	}
	return wrapped, l.keyID, nil
}

// ReEncrypt wraps a stored data key once more, under a fresh nonce. Errors are those of Decrypt and WrapKey.
func (l *Local) ReEncrypt(ctx context.Context, wrapped []byte, keyID string, encryptionContext Context) (moved []byte, movedID string, err error) {
	key, err := l.Decrypt(ctx, wrapped, keyID, encryptionContext)
	if err != nil {
		return nil, "", err
	}
	defer key.Release()
	return l.WrapKey(ctx, key, encryptionContext)
}

// Status says that a keeper which asks nobody is well.
func (l *Local) Status() Status { return Status{Mode: "local", State: stateOK, Breaker: "closed"} }

// Decrypt unwraps a data key, which the caller releases. Errors are of kind Internal and wrap [ErrUnknownKey] if keyID
// isn't [Local.KeyID], [ErrInvalidCiphertext] if wrapped is damaged or encryptionContext is another one, or [ErrClosed].
// A done ctx is an error of kind Unavailable. wrapped is neither kept nor changed.
func (l *Local) Decrypt(ctx context.Context, wrapped []byte, keyID string, encryptionContext Context) (sensitive.Bytes, error) {
	if err := ctx.Err(); err != nil {
		return sensitive.Bytes{}, fault.Wrap(fault.Unavailable, err, "")
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return sensitive.Bytes{}, fault.Wrap(fault.Internal, ErrClosed, "")
	}
	if keyID != l.keyID {
		return sensitive.Bytes{}, fault.Wrap(fault.Internal, ErrUnknownKey, "")
	}
	if len(wrapped) != localBlobSize || wrapped[0] != localVersion {
		return sensitive.Bytes{}, fault.Wrap(fault.Internal, ErrInvalidCiphertext, "")
	}
	var key sensitive.Bytes
	var err error
	sensitive.Do(func() { key, err = l.unwrap(wrapped[1:], l.additionalData(encryptionContext)) })
	if err != nil {
		return sensitive.Bytes{}, fault.Wrap(fault.Internal, err, "")
	}
	return key, nil
}

func (l *Local) unwrap(sealed, aad []byte) (sensitive.Bytes, error) {
	aead, err := l.aead()
	if err != nil {
		return sensitive.Bytes{}, err
	}
	nonce, sealed := sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:]
	key, err := aead.Open(make([]byte, 0, DataKeySize), nonce, sealed, aad)
	if err != nil {
		return sensitive.Bytes{}, ErrInvalidCiphertext
	}
	return sensitive.Take(key), nil
}

// Close zeroes what was derived from the master key, after the calls in flight. It is idempotent; later calls fail.
func (l *Local) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.wrapKey.Release()
}

func (l *Local) aead() (cipher.AEAD, error) { return chacha20poly1305.NewX(l.wrapKey.Reveal()) }

// additionalData encodes the key id and the context's pairs in the byte order of their keys.
func (l *Local) additionalData(encryptionContext Context) []byte {
	return encryptionContext.appendText(canon.Text(canon.Start(make([]byte, 0, 256), labelLocalWrap), l.keyID))
}
