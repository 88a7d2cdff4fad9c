package httpapi

import (
	"sync"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// The sizes of buffers that are kept, in bytes. Most bodies and answers fit the small one, batches and the longest values
// the large one.
const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

// buffers keeps the memory of bodies and answers, which hold plaintext, for the next ones. What it keeps is zero from end
// to end (I1). A nil *buffers keeps nothing.
type buffers struct{ small, large sync.Pool }

// get gives a buffer of length 0 with room for at least n bytes. Whoever gets it gives it to put, once, also if it is
// outgrown.
func (b *buffers) get(n int) []byte {
	switch {
	case b == nil || n > largeBuffer:
		return make([]byte, 0, n)
	case n > smallBuffer:
		if kept, ok := b.large.Get().(*[largeBuffer]byte); ok {
			return kept[:0]
		}
		return make([]byte, 0, largeBuffer)
	}
	if kept, ok := b.small.Get().(*[smallBuffer]byte); ok {
		return kept[:0]
	}
	return make([]byte, 0, smallBuffer)
}

// put zeroes all of buf, as a reader or an encoder may have written behind its length, and keeps it. Pointers to arrays
// cost the pool no memory of their own.
func (b *buffers) put(buf []byte) {
	buf = buf[:cap(buf)]
	sensitive.Zero(buf)
	switch {
	case b == nil:
	case len(buf) == smallBuffer:
		b.small.Put((*[smallBuffer]byte)(buf))
	case len(buf) == largeBuffer:
		b.large.Put((*[largeBuffer]byte)(buf))
	}
}
