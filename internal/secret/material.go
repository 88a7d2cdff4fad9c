package secret

import (
	"bytes"
	"crypto/subtle"
	"unicode"
	"unicode/utf8"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

const (
	// MaxValueBytes is the longest value or password, in bytes.
	MaxValueBytes = 64 << 10
	// MaxUsernameBytes is the longest user name, in bytes.
	MaxUsernameBytes = 1024
)

// Material is what one version holds: the plaintext, in the form in which it was given. Its owner releases it.
type Material struct {
	// Format says which fields are in use.
	Format Format
	// Username is the user name of a userpass secret, and empty otherwise.
	Username sensitive.Bytes
	// Value is the value of an opaque secret, or the password of a userpass one.
	Value sensitive.Bytes
	// Binary marks an opaque value that was given, and is answered, as base64.
	Binary bool
}

// Validate checks the limits: a value or password of 1 byte to 64 KiB, a user name of 1 to 1024 bytes of UTF-8
// without control characters. Text is UTF-8 without NUL; an opaque value that isn't must be marked Binary.
// Errors are of kind Invalid and hold nothing of the material.
func (m Material) Validate() error {
	switch m.Format {
	case Opaque:
		return m.validateOpaque()
	case Userpass:
		return m.validateUserpass()
	}
	return fault.New(fault.Invalid, "format must be opaque or userpass")
}

func (m Material) validateOpaque() error {
	if m.Username.Len() > 0 {
		return fault.New(fault.Invalid, "an opaque secret has no username: send a value alone, or username and password for a userpass secret")
	}
	if n := m.Value.Len(); n < 1 || n > MaxValueBytes {
		return fault.New(fault.Invalid, "value must be 1 to 65536 bytes long, after decoding if it is sent as value_base64")
	}
	if !m.Binary && !isText(m.Value.Reveal()) {
		return fault.New(fault.Invalid, "value must be UTF-8 text without NUL bytes: send value_base64 for anything else")
	}
	return nil
}

func (m Material) validateUserpass() error {
	if m.Binary {
		return fault.New(fault.Invalid, "a userpass secret holds text: value_base64 is for opaque secrets")
	}
	if n := m.Username.Len(); n < 1 || n > MaxUsernameBytes {
		return fault.New(fault.Invalid, "username must be 1 to 1024 bytes long")
	}
	if user := m.Username.Reveal(); !utf8.Valid(user) || bytes.ContainsFunc(user, unicode.IsControl) {
		return fault.New(fault.Invalid, "username must be UTF-8 text without control characters")
	}
	if n := m.Value.Len(); n < 1 || n > MaxValueBytes {
		return fault.New(fault.Invalid, "password must be 1 to 65536 bytes long")
	}
	if !isText(m.Value.Reveal()) {
		return fault.New(fault.Invalid, "password must be UTF-8 text without NUL bytes")
	}
	return nil
}

func isText(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }

// Equal tells whether both hold the same material in the same shape; text is never equal to the same bytes given
// as base64. Every field is compared, always, by digest: the time taken tells neither whether they differ nor where
// nor in length (I12). Material that Validate would refuse for its shape equals nothing; released material panics.
func (m Material) Equal(o Material) bool {
	same := subtle.ConstantTimeByteEq(m.shape(), o.shape())
	same &= bit(m.shape() != 0)
	same &= bit(sensitive.Equal(m.Username, o.Username))
	same &= bit(sensitive.Equal(m.Value, o.Value))
	return same == 1
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Release zeroes the material; every copy of it sees that. It can be called again, and on the zero value.
func (m Material) Release() {
	m.Username.Release()
	m.Value.Release()
}
