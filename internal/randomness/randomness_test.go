package randomness

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
)

func fresh(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// refused fails the test unless the next draw of 32 bytes is an error that gives nothing.
func refused(t *testing.T, name string, s *Source, want error) {
	t.Helper()
	p := bytes.Repeat([]byte{0xaa}, 32)
	if n, err := s.Read(p); n != 0 || !errors.Is(err, want) || !bytes.Equal(p, make([]byte, 32)) {
		t.Errorf("%s: %d bytes, %v, left %x", name, n, err, p)
	}
}

func draw(t *testing.T, s *Source, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if got, err := s.Read(p); got != n || err != nil {
		t.Fatalf("drew %d bytes of %d: %v", got, n, err)
	}
	return p
}

func TestI4_ABrokenSourceGivesNothing(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	refused(t, "fails", New(iotest.ErrReader(broken)), broken)
	refused(t, "empty", New(bytes.NewReader(nil)), io.ErrUnexpectedEOF)
	refused(t, "short", New(bytes.NewReader(fresh(31))), io.ErrUnexpectedEOF)
	refused(t, "fails half way", New(io.MultiReader(bytes.NewReader(fresh(20)), iotest.ErrReader(broken))), broken)
	refused(t, "all zeros", New(bytes.NewReader(make([]byte, 64))), ErrRepetition)
	refused(t, "constant", New(bytes.NewReader(bytes.Repeat([]byte{7}, 64))), ErrRepetition)
	refused(t, "a sample twice", New(bytes.NewReader(slices.Concat(fresh(8), bytes.Repeat(fresh(8), 2), fresh(8)))), ErrRepetition)
}

func TestI4_ASourceThatStartsAnewIsRefused(t *testing.T) {
	t.Parallel()
	period := fresh(32)
	s := New(bytes.NewReader(slices.Concat(period, period, fresh(32))))
	draw(t, s, 32)
	refused(t, "the same draw", s, ErrRepetition)
	draw(t, s, 32)

	longer := New(bytes.NewReader(slices.Concat(period[:24], period)))
	draw(t, longer, 24)
	refused(t, "the same beginning of a longer draw", longer, ErrRepetition)
}

func TestADrawTooShortToTestIsRefused(t *testing.T) {
	t.Parallel()
	s := New(nil)
	for n := range MinDraw {
		if got, err := s.Read(make([]byte, n)); got != 0 || err == nil {
			t.Errorf("%d bytes were drawn: %v", n, err)
		}
	}
	draw(t, s, MinDraw)
}

func TestNew(t *testing.T) {
	t.Parallel()
	if s := New(rand.Reader); New(s) != s || New(nil) != Reader || s == Reader {
		t.Error("a source isn't kept as it is, or nil isn't the system's")
	}
}

func TestASourceThatWorksGivesWhatItHas(t *testing.T) {
	t.Parallel()
	want := fresh(96)
	for name, from := range map[string]io.Reader{
		"at once": bytes.NewReader(want), "a byte at a time": iotest.OneByteReader(bytes.NewReader(want)),
	} {
		s := New(from)
		if got := slices.Concat(draw(t, s, 16), draw(t, s, 24), draw(t, s, 32), draw(t, s, 24)); !bytes.Equal(got, want) {
			t.Errorf("%s: got %x", name, got)
		}
	}
}

// notConcurrent is a source that the race detector watches.
type notConcurrent struct{ reads int }

func (s *notConcurrent) Read(p []byte) (int, error) {
	s.reads++
	return rand.Read(p)
}

func TestSource_ManyDrawAtOnce(t *testing.T) {
	t.Parallel()
	from := &notConcurrent{}
	s := New(from)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				if _, err := s.Read(make([]byte, 24)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if from.reads != 8000 {
		t.Errorf("%d reads", from.reads)
	}
}
