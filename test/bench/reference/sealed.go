package reference

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// sealed is what a version holds.
type sealed struct {
	kmsKeyID                      string
	wrappedDEK, nonce, ciphertext []byte
}

// seal seals a value under the key of all values, bound to its name and padded to the size that the vault's would have.
func seal(aead cipher.AEAD, name string, value []byte, sizes Sizes) sealed {
	s := sealed{
		kmsKeyID: strings.Repeat("k", sizes.KMSKeyID), wrappedDEK: make([]byte, sizes.WrappedDEK), nonce: make([]byte, aead.NonceSize()),
	}
	_, _ = rand.Read(s.wrappedDEK)
	_, _ = rand.Read(s.nonce)
	padded := make([]byte, 1, max(sizes.Ciphertext-aead.Overhead(), len(value)+1))
	padded[0] = byte(len(value))
	padded = append(padded, value...)[:cap(padded)]
	s.ciphertext = aead.Seal(nil, s.nonce, padded, []byte(name))
	return s
}

// opener opens what seal sealed.
type opener struct{ aead cipher.AEAD }

func newOpener(key []byte) (opener, error) {
	aead, err := chacha20poly1305.NewX(key)
	return opener{aead: aead}, err
}

var errDamaged = errors.New("the stored value doesn't open")

// value opens a row.
func (o opener) value(name string, row *sealedRow) ([]byte, error) {
	padded, err := o.aead.Open(make([]byte, 0, len(row.Ciphertext)), row.Nonce, row.Ciphertext, []byte(name))
	if err != nil || len(padded) == 0 || len(padded) <= int(padded[0]) {
		return nil, errDamaged
	}
	return padded[1 : 1+int(padded[0])], nil
}

// sealedRow is the current version of a secret.
type sealedRow struct {
	Kind, Format      string
	CreatedAt         time.Time
	Version           int64
	WrappedDEK        []byte
	Nonce, Ciphertext []byte

	// For Validated alone.
	versionUID              [16]byte
	secretXmin, versionXmin uint32
}

const selectSQL = `
SELECT s.kind, s.format, s.created_at, v.version, v.wrapped_dek, v.nonce, v.ciphertext
FROM vault.secrets s JOIN vault.secret_versions v ON v.secret_id = s.id AND v.version = s.current_version
WHERE s.name = $1`

func (r *reader) find(ctx context.Context, name string) (*sealedRow, error) {
	var row sealedRow
	err := r.pool.QueryRow(ctx, selectSQL, name).Scan(&row.Kind, &row.Format, &row.CreatedAt, &row.Version,
		&row.WrappedDEK, &row.Nonce, &row.Ciphertext)
	return &row, err
}
