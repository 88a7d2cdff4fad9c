package sensitive

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestShared_IsZeroedByTheLastRelease(t *testing.T) {
	t.Parallel()
	content := []byte("a key that many use")
	freed := 0
	s := NewShared(content, func() { freed++ })
	first, _ := s.Borrow()
	second, _ := s.Borrow()
	s.Retain()
	s.Release()
	s.Release()
	first.Release()
	first.Release() // takes nothing from the second
	mustPanic(t, func() { first.Reveal() })
	if string(second.Reveal()) != "a key that many use" || freed != 0 {
		t.Fatal("it is gone while somebody holds it")
	}
	second.Release()
	if !bytes.Equal(content, make([]byte, len(content))) || freed != 1 {
		t.Errorf("it was not zeroed once: freed %d times", freed)
	}
	if _, ok := s.Borrow(); ok {
		t.Error("what is gone was lent")
	}
	mustPanic(t, s.Retain)
}

func TestI1_SharedContentIsNeverPrinted(t *testing.T) {
	t.Parallel()
	s := NewShared([]byte("canary"), nil)
	b, _ := s.Borrow()
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		text := fmt.Sprintf(format, s) + fmt.Sprintf(format, struct{ s *Shared }{s}) + fmt.Sprintf(format, struct{ b Bytes }{b})
		if strings.Contains(text, "canary") || strings.Contains(text, "63616e617279") || strings.Contains(text, "99 97 110") {
			t.Errorf("%s shows the content: %s", format, text)
		}
	}
}

// The race detector is what this is for.
func TestShared_ReadersNeverSeeItZeroed(t *testing.T) {
	t.Parallel()
	for range 200 {
		s := NewShared([]byte("canary"), nil)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for {
					b, ok := s.Borrow()
					if !ok {
						return
					}
					if string(b.Reveal()) != "canary" {
						t.Error("zeroed while it was borrowed")
					}
					b.Release()
				}
			})
		}
		all.Go(s.Release)
		all.Wait()
	}
}
