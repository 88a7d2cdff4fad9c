package integrity

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// StreamKey MACs the messages of one audit stream: its opening, its records and its closing record, which canon's
// labels tell apart. One goroutine at a time may use it.
type StreamKey struct {
	mac hash.Hash
	sum [sha256.Size]byte // here rather than in MAC, where it would be allocated on every call
}

func newStreamKey(key sensitive.Bytes) *StreamKey {
	s := &StreamKey{}
	sensitive.Do(func() { s.mac = hmac.New(sha256.New, key.Reveal()) })
	return s
}

// MAC returns the HMAC-SHA256 (RFC 2104) of message, which it neither keeps nor changes. It allocates nothing after its
// first call. Compare MACs with hmac.Equal. It panics after Release.
func (s *StreamKey) MAC(message []byte) [sha256.Size]byte {
	if s.mac == nil {
		panic("integrity: stream key used after release")
	}
	s.mac.Reset()
	_, _ = s.mac.Write(message) // hash.Hash never returns an error
	s.mac.Sum(s.sum[:0])
	return s.sum
}

// Release drops the key; it is idempotent. The state inside crypto/hmac can't be zeroed from here: it goes when it is
// collected, erased in builds with runtime/secret (see sensitive.Do).
func (s *StreamKey) Release() { s.mac = nil }
