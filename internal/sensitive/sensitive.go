// Package sensitive holds plaintext and keys so that they cannot leave by accident.
//
// A [Bytes] prints, formats, logs and marshals as "[redacted]", refuses to be a database parameter, and is zeroed on
// Release. Reading it is an explicit call to [Bytes.Reveal], which a reader can search for.
//
// Invariants:
//   - I1: no verb, logger, encoder or driver of the standard library turns a Bytes into its content, not even when it
//     is an unexported field that fmt reaches by reflection and whose methods fmt therefore cannot call.
//   - I12: [Equal] takes a time that does not depend on where or whether the contents differ.
//   - I4: reading after Release panics. A wiped buffer is never mistaken for a value or a key of zeros.
//
// What it does not promise: memory that other code copied (a string made from Reveal, the key schedule inside a
// cipher, a page that was swapped out) is out of its reach. [Do] narrows that where the toolchain can.
package sensitive

import (
	"crypto/sha256"
	"crypto/subtle"
	"runtime"
	"sync/atomic"
)

// Bytes is a handle on sensitive bytes. Copies of a handle share one buffer and one lifetime: a Release through any of
// them is seen by all. The zero value holds nothing and is ready to use.
//
// Handles may be shared among goroutines, as long as nobody uses revealed bytes while another goroutine releases them.
type Bytes struct {
	// Comparing handles with == would compare addresses, which is never what is meant; this makes it not compile.
	_   [0]func()
	buf *buffer
}

// The content sits behind two pointers because fmt, meeting a Bytes in an unexported field, can't call its methods and
// prints by reflection. It follows one pointer where a verb doesn't suit it (%s gives "%!s(*T=&{…})"), never a second.
type buffer struct {
	released atomic.Bool
	data     *[]byte
	shared   *Shared // whose content this is, if it is borrowed
}

// owned is a buffer that came with its content, in one piece of memory. A handle points at the buffer alone, behind which
// printing by reflection sees nothing.
type owned struct {
	buffer
	content []byte
}

// Take returns a handle that owns b: the caller must neither read nor write b afterwards, and Release zeroes
// b[:len(b)]. An empty or nil b gives an empty handle, which is not the zero value.
func Take(b []byte) Bytes {
	// The capacity is cut so that appending to revealed bytes can't write over what lies behind them.
	own := &owned{content: b[:len(b):len(b)]}
	own.data = &own.content
	return Bytes{buf: &own.buffer}
}

// Copy returns a handle on its own copy of b. The caller keeps b and, if it is done with it, zeroes it.
func Copy(b []byte) Bytes {
	own := make([]byte, len(b))
	copy(own, b)
	return Take(own)
}

// CopyString returns a handle on its own copy of s. The string itself can't be zeroed and stays in memory until it is
// collected, so this is for text that arrives as a string anyway.
func CopyString(s string) Bytes {
	own := make([]byte, len(s))
	copy(own, s)
	return Take(own)
}

// Reveal returns the content, borrowed: valid until Release, not to be written, kept, or converted to a string that
// outlives the handle. It returns nil for the zero value and panics after Release.
func (s Bytes) Reveal() []byte {
	if s.buf == nil {
		return nil
	}
	if s.buf.released.Load() {
		panic("sensitive: read after release")
	}
	return *s.buf.data
}

// Len returns the number of bytes held: 0 for the zero value and after Release.
func (s Bytes) Len() int {
	if s.buf == nil || s.buf.released.Load() {
		return 0
	}
	return len(*s.buf.data)
}

// IsZero reports whether s is the zero value, which holds nothing at all. A handle on zero bytes is not zero.
func (s Bytes) IsZero() bool { return s.buf == nil }

// Clone returns a handle on an independent copy, with a lifetime of its own. The clone of the zero value is the zero
// value. It panics after Release.
func (s Bytes) Clone() Bytes {
	if s.buf == nil {
		return Bytes{}
	}
	return Copy(s.Reveal())
}

// Release zeroes the content, or gives it back if it is borrowed (see [Shared]). It is idempotent, safe on the zero value
// and from several goroutines, and seen by all copies of the handle.
func (s Bytes) Release() {
	if s.buf == nil || s.buf.released.Swap(true) {
		return
	}
	if s.buf.shared != nil {
		s.buf.shared.Release()
		return
	}
	Zero(*s.buf.data)
}

// Equal reports whether a and b hold the same bytes; the zero value equals empty. It compares SHA-256 digests in
// constant time, so that neither the first difference nor a difference in length shows in the comparison (I12). It
// panics if either was released.
func Equal(a, b Bytes) bool {
	da := sha256.Sum256(a.Reveal())
	db := sha256.Sum256(b.Reveal())
	return subtle.ConstantTimeCompare(da[:], db[:]) == 1
}

// Zero overwrites b with zeros.
func Zero(b []byte) {
	clear(b)
	// Keeps the stores alive should a compiler learn to drop those to memory that is never read again.
	runtime.KeepAlive(b)
}
