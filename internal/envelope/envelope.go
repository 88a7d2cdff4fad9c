// Package envelope seals plaintext into its place and opens it there, and nowhere else.
//
// Each version of a secret has a data key of its own. Sealing is XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03 over
// RFC 8439) under that key, with the canonical encoding of the version's [Place] as additional data.
//
// Invariants:
//   - I5: a ciphertext opens only in the place that it was sealed in, under its own key, and unchanged. Everything else is
//     one error, [ErrUnopenable], which tells nobody which part did not fit.
//   - I1: plaintext goes in and comes out in a sensitive.Bytes, and errors hold none of it.
//   - I4: randomness that fails or runs short is an error. A nonce is never short, repeated on purpose, or made up.
package envelope

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Sizes in bytes.
const (
	KeySize   = chacha20poly1305.KeySize    // of a DEK
	NonceSize = chacha20poly1305.NonceSizeX // of a nonce: 192 bits, so that random ones don't collide
	Overhead  = chacha20poly1305.Overhead   // by which a ciphertext is longer than its plaintext
)

// ErrUnopenable says that a ciphertext does not open: the row was moved, swapped, truncated or edited, or the key is
// another's. It is the only error of [Open].
var ErrUnopenable = errors.New("envelope: ciphertext does not open in this place")

// Place is where a ciphertext belongs: one version of one secret. The uid is new for every version, so that a secret
// that was deleted and made again under its name, with its version numbers, is another place.
type Place struct {
	SecretID   [16]byte
	Name       string
	Version    int64
	VersionUID [16]byte
}

// complete reports whether every field is set. An unset one would bind the ciphertext to less than its place.
func (p Place) complete() bool {
	return p.SecretID != [16]byte{} && p.Name != "" && p.Version >= 1 && p.VersionUID != [16]byte{}
}

// additionalData is the canonical encoding of the place, as docs/formats.md has it.
func (p Place) additionalData() []byte {
	aad := make([]byte, 0, len(canon.LabelAAD)+len(p.Name)+64)
	aad = canon.Start(aad, canon.LabelAAD)
	aad = canon.UUID(aad, p.SecretID)
	aad = canon.Text(aad, p.Name)
	aad = canon.Int(aad, p.Version)
	return canon.UUID(aad, p.VersionUID)
}

// Sealed is a sealed plaintext as it is stored. It holds nothing that has to be kept from anyone.
type Sealed struct {
	Nonce      []byte // 24 bytes
	Ciphertext []byte // as long as the plaintext, and 16 bytes of tag
}

// Sealer seals with fresh nonces. It is safe for concurrent use.
type Sealer struct{ random *randomness.Source }

// NewSealer returns a sealer that draws nonces from random; nil means randomness.Reader. It draws two at once, so that
// a source that fails, runs short or repeats itself is an error here rather than at the first write.
func NewSealer(random io.Reader) (*Sealer, error) {
	s := &Sealer{random: randomness.New(random)}
	for range 2 {
		if _, err := s.nonce(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Seal seals plaintext under dek into its place. dek is 32 bytes and should seal nothing else; it and plaintext stay the
// caller's to release. An incomplete place, a key of another size, nothing to seal (the zero value; an empty plaintext
// is something) and failing randomness are errors.
func (s *Sealer) Seal(dek sensitive.Bytes, p Place, plaintext sensitive.Bytes) (Sealed, error) {
	switch {
	case !p.complete():
		return Sealed{}, errors.New("envelope: the place to seal into is incomplete")
	case dek.Len() != KeySize:
		return Sealed{}, fmt.Errorf("envelope: the key has %d bytes, not %d", dek.Len(), KeySize)
	case plaintext.IsZero():
		return Sealed{}, errors.New("envelope: nothing to seal")
	}
	nonce, err := s.nonce()
	if err != nil {
		return Sealed{}, err
	}
	return seal(dek, p, plaintext, nonce)
}

// nonce returns 24 fresh random bytes or an error, never fewer.
func (s *Sealer) nonce() ([]byte, error) {
	nonce := make([]byte, NonceSize)
	if _, err := io.ReadFull(s.random, nonce); err != nil {
		return nil, fmt.Errorf("envelope: draw a nonce: %w", err)
	}
	return nonce, nil
}

func seal(dek sensitive.Bytes, p Place, plaintext sensitive.Bytes, nonce []byte) (Sealed, error) {
	aad, text := p.additionalData(), plaintext.Reveal()
	ciphertext := make([]byte, 0, len(text)+Overhead)
	var err error
	sensitive.Do(func() { // the cipher keeps a copy of the key
		aead, kerr := chacha20poly1305.NewX(dek.Reveal())
		if kerr != nil {
			err = fmt.Errorf("envelope: %w", kerr)
			return
		}
		ciphertext = aead.Seal(ciphertext, nonce, text, aad)
	})
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{Nonce: nonce, Ciphertext: ciphertext}, nil
}

// Open opens s in its place under dek and returns the plaintext, which the caller releases. Any failure is
// [ErrUnopenable] and comes with no plaintext. dek stays the caller's; s is neither kept nor changed.
func Open(dek sensitive.Bytes, p Place, s Sealed) (sensitive.Bytes, error) {
	if dek.Len() != KeySize || len(s.Nonce) != NonceSize || len(s.Ciphertext) < Overhead {
		return sensitive.Bytes{}, ErrUnopenable
	}
	aad := p.additionalData()
	// It is zeroed by its release, or by the cipher should it not open. What is allocated within Do costs more than its erasure.
	text := make([]byte, 0, len(s.Ciphertext)-Overhead)
	var err error
	sensitive.Do(func() {
		var aead cipher.AEAD
		if aead, err = chacha20poly1305.NewX(dek.Reveal()); err == nil {
			text, err = aead.Open(text, s.Nonce, s.Ciphertext, aad)
		}
	})
	if err != nil {
		return sensitive.Bytes{}, ErrUnopenable
	}
	return sensitive.Take(text), nil
}
