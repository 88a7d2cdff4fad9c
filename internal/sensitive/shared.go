package sensitive

import (
	"fmt"
	"io"
	"sync/atomic"
)

// Shared is one content that many handles borrow at once, such as a key in a cache. It is zeroed when its owner and
// every borrower have released it, and not before: none of them can pull it away under another.
type Shared struct {
	refs atomic.Int64 // the owner's and the borrowers' references; at 0 the content is gone for good
	data *[]byte      // behind two pointers, as in buffer
	free func()
}

// NewShared takes b, as [Take] does, with one reference: the owner's. free, if it isn't nil, is called once, after the
// content was zeroed, by whoever releases last.
func NewShared(b []byte, free func()) *Shared {
	b = b[:len(b):len(b)]
	s := &Shared{data: &b, free: free}
	s.refs.Store(1)
	return s
}

// Borrow returns a handle whose Release gives the content back; only the last release of all zeroes it. Each borrower
// has a handle of its own: releasing one twice is as harmless as ever and takes nothing from another. ok is false if
// the content is gone.
func (s *Shared) Borrow() (_ Bytes, ok bool) {
	for {
		n := s.refs.Load()
		if n == 0 {
			return Bytes{}, false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return Bytes{buf: &buffer{data: s.data, shared: s}}, true
		}
	}
}

// Retain adds an owner, on behalf of one: the content is not gone before that one, too, calls Release.
func (s *Shared) Retain() {
	if s.refs.Add(1) < 2 {
		panic("sensitive: retained after release")
	}
}

// Release gives up an owner's reference. Each owner calls it once.
func (s *Shared) Release() {
	switch n := s.refs.Add(-1); {
	case n < 0:
		panic("sensitive: released more often than it was borrowed")
	case n == 0:
		Zero(*s.data)
		if s.free != nil {
			s.free()
		}
	}
}

// String returns [Redacted].
func (s *Shared) String() string { return Redacted }

// Format writes [Redacted] whatever the verb.
func (s *Shared) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }
