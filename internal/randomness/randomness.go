// Package randomness is where keys, nonces, ids, tokens, generated values and the names of processes come from, and what tells a source
// that is broken from one that works.
//
// What need not be unguessable, nor unique for anything to be safe, doesn't come from here: a request's id, which its client may choose
// just as well; the name of a token that `sealkeep dev` recovers, which the database keeps unique; and jitter.
//
// Invariants:
//   - I4: a draw is whole and passes the health tests, or it is an error and gives no byte: a source that fails, runs short, is
//     stuck or repeats itself makes nothing.
//   - I1: nothing of a draw is kept but a digest of its beginning.
//
// The tests are the repetition count test of NIST SP 800-90B, section 4.4.1, on samples of 64 bits with cutoff 2, which a good
// source fails once in 2^64 samples: two samples in a row within a draw must differ, and so must the beginnings of two
// draws in a row. They find a source that is stuck or was started anew, not one that is merely predictable: nothing that looks
// at the output alone could.
package randomness

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	// MinDraw is the shortest draw, in bytes. Of fewer, some would be equal by chance.
	MinDraw = 16
	sample  = 8
)

var (
	// ErrRepetition says that a source gave the same twice in a row.
	ErrRepetition = errors.New("randomness: the source repeats itself")
	errShortDraw  = fmt.Errorf("randomness: fewer than %d bytes can't be tested", MinDraw)
)

// Reader draws from the system's generator.
var Reader = &Source{from: rand.Reader}

// Source draws from a source of randomness and tests what it gives. It is safe for concurrent use, whatever the source is.
type Source struct {
	mu     sync.Mutex
	from   io.Reader
	before [sha256.Size]byte // the digest of the beginning of the last draw
}

// New returns a Source that draws from another source; nil is the system's generator. A *Source is returned as it is.
func New(from io.Reader) *Source {
	switch s := from.(type) {
	case nil:
		return Reader
	case *Source:
		return s
	}
	return &Source{from: from}
}

// Read fills p, of at least MinDraw bytes, from one draw. With an error n is 0 and p is all zeros.
func (s *Source) Read(p []byte) (n int, err error) {
	if err := s.draw(p); err != nil {
		clear(p)
		return 0, err
	}
	return len(p), nil
}

func (s *Source) draw(p []byte) error {
	if len(p) < MinDraw {
		return errShortDraw
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := io.ReadFull(s.from, p); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // nobody may take it for the end of something
		}
		return fmt.Errorf("randomness: the source gave less than was asked for: %w", err)
	}
	for at := 2 * sample; at <= len(p); at += sample {
		if bytes.Equal(p[at-2*sample:at-sample], p[at-sample:at]) {
			return ErrRepetition
		}
	}
	beginning := sha256.Sum256(p[:MinDraw])
	if beginning == s.before {
		return ErrRepetition
	}
	s.before = beginning
	return nil
}
