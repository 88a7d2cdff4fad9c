package integrity

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Request is a request that carries an idempotency key, with what came of it: a row of vault.idempotency_keys. Its MAC speaks of all of
// it, so that a row that somebody moved to another token or key, or had point elsewhere, is as good as none of that request.
type Request struct {
	TokenID   uuid.UUID
	Key       string
	Operation string // what is asked, as the audit trail names it
	Name      string // of the secret
	// Fields are what else it says, in the operation's order; nil is NULL.
	Fields [][]byte
	// Values are what it says in plaintext, in the operation's order; the zero Bytes is NULL. They are the caller's.
	Values []sensitive.Bytes

	SecretID   uuid.UUID
	VersionUID *uuid.UUID
	JobID      *uuid.UUID
	ExpiresAt  time.Time
}

// RequestMAC returns the request's MAC under the active root of idempotency. It is [ErrNoRoot] if the keyring was opened without it.
func (k *Keyring) RequestMAC(r *Request) ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	keyID, ok := k.active[PurposeIdempotency]
	if !ok {
		return nil, fmt.Errorf("integrity: make the mac of a request: %w", ErrNoRoot)
	}
	return k.requestMAC(r, keyID)
}

// CheckRequest tells whether mac is that of the request, under any root of idempotency: [ErrForged] says that it isn't. Requests are
// kept for a day, and their root may be replaced meanwhile.
func (k *Keyring) CheckRequest(r *Request, mac []byte) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if _, ok := k.active[PurposeIdempotency]; !ok {
		return fmt.Errorf("integrity: check the mac of a request: %w", ErrNoRoot)
	}
	result := ErrForged
	for keyID, root := range k.roots {
		if root.purpose != PurposeIdempotency {
			continue
		}
		want, err := k.requestMAC(r, keyID)
		if err != nil {
			return err
		}
		if hmac.Equal(want, mac) {
			result = nil
		}
	}
	return result
}

// requestMAC is called with mu held. Nothing of the values is left behind: what was encoded is zeroed, and HMAC's own copies are made
// where they are erased, if anything is.
func (k *Keyring) requestMAC(r *Request, keyID uuid.UUID) (sum []byte, err error) {
	root, ok := k.roots[keyID]
	if !ok {
		return nil, errors.New("integrity: the root of idempotency is gone")
	}
	key, err := derive(root.key, k.vaultID, canon.LabelIdempotency, keyID)
	if err != nil {
		return nil, err
	}
	defer key.Release()
	message := make([]byte, 0, r.room()) // it never grows, which would leave a copy
	defer func() { sensitive.Zero(message) }()
	sum = make([]byte, 0, sha256.Size)
	sensitive.Do(func() {
		message = r.fields(canon.Start(message, canon.LabelIdempotency))
		mac := hmac.New(sha256.New, key.Reveal())
		_, _ = mac.Write(message) // hash.Hash never returns an error
		sum = mac.Sum(sum)
	})
	return sum, nil
}

func (r *Request) fields(dst []byte) []byte {
	dst = canon.UUID(dst, r.TokenID)
	dst = canon.Text(dst, r.Key)
	dst = canon.Text(dst, r.Operation)
	dst = canon.Text(dst, r.Name)
	dst = canon.UUID(dst, r.SecretID)
	dst = canon.NullableUUID(dst, (*[16]byte)(r.VersionUID))
	dst = canon.NullableUUID(dst, (*[16]byte)(r.JobID))
	dst = canon.Time(dst, r.ExpiresAt)
	dst = canon.Int(dst, int64(len(r.Fields)))
	for _, f := range r.Fields {
		dst = canon.NullableBytes(dst, f)
	}
	dst = canon.Int(dst, int64(len(r.Values)))
	for _, v := range r.Values {
		dst = canon.NullableBytes(dst, v.Reveal())
	}
	return dst
}

// room is more than the encoding takes, in bytes.
func (r *Request) room() int {
	const header, fixed = 5, 256
	n := fixed + len(canon.LabelIdempotency) + len(r.Key) + len(r.Operation) + len(r.Name)
	for _, f := range r.Fields {
		n += header + len(f)
	}
	for _, v := range r.Values {
		n += header + v.Len()
	}
	return n
}
