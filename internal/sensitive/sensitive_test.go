package sensitive

import (
	"bytes"
	"sync"
	"testing"
)

func mustPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("did not panic")
		}
	}()
	f()
}

func TestBytes_Ownership(t *testing.T) {
	t.Parallel()

	t.Run("Take zeroes the caller's buffer on release and nothing behind it", func(t *testing.T) {
		t.Parallel()
		backing := []byte("secret|next")
		s := Take(backing[:6])
		if got := s.Reveal(); string(got) != "secret" || cap(got) != 6 {
			t.Fatalf("revealed %d bytes with capacity %d", len(got), cap(got))
		}
		s.Release()
		if want := []byte("\x00\x00\x00\x00\x00\x00|next"); !bytes.Equal(backing, want) {
			t.Errorf("buffer after release is % x, want % x", backing, want)
		}
	})

	t.Run("Copy leaves the caller's buffer alone", func(t *testing.T) {
		t.Parallel()
		src := []byte("secret")
		s := Copy(src)
		src[0] = 'X'
		if string(s.Reveal()) != "secret" {
			t.Error("the copy follows its source")
		}
		s.Release()
		if string(src) != "Xecret" {
			t.Error("release reached the source of a copy")
		}
	})

	t.Run("Clone has a lifetime of its own", func(t *testing.T) {
		t.Parallel()
		s := CopyString("secret")
		c := s.Clone()
		s.Release()
		if string(c.Reveal()) != "secret" {
			t.Error("releasing the original wiped the clone")
		}
		c.Release()
		mustPanic(t, func() { c.Reveal() })
	})
}

func TestI4_ReadAfterReleasePanics(t *testing.T) {
	t.Parallel()
	s := CopyString("secret")
	other := s
	inner := s.Reveal()
	other.Release()
	s.Release()
	other.Release()

	mustPanic(t, func() { s.Reveal() })
	mustPanic(t, func() { other.Reveal() })
	mustPanic(t, func() { s.Clone() })
	mustPanic(t, func() { Equal(s, CopyString("secret")) })
	if s.Len() != 0 || s.IsZero() {
		t.Error("a released handle is empty and is not the zero value")
	}
	if !bytes.Equal(inner, make([]byte, 6)) {
		t.Error("release did not zero the content")
	}
}

func TestBytes_ZeroValue(t *testing.T) {
	t.Parallel()
	var s Bytes
	s.Release()
	if !s.IsZero() || s.Len() != 0 || s.Reveal() != nil || !s.Clone().IsZero() {
		t.Error("the zero value holds nothing, before and after release")
	}
	for name, empty := range map[string]Bytes{"Take(nil)": Take(nil), "Copy(nil)": Copy(nil), "CopyString": CopyString("")} {
		if empty.IsZero() || empty.Len() != 0 {
			t.Errorf("%s: an empty handle is not the zero value", name)
		}
		if !Equal(empty, s) {
			t.Errorf("%s: the zero value equals empty", name)
		}
	}
}

func TestI12_EqualComparesContentOfAnyLength(t *testing.T) {
	t.Parallel()
	values := []string{"", "a", "b", "ab", "secret", "secreu", "Secret", "secret\x00", string(make([]byte, 64<<10))}
	for i, a := range values {
		for j, b := range values {
			if got := Equal(CopyString(a), CopyString(b)); got != (i == j) {
				t.Errorf("Equal(value %d, value %d) = %t", i, j, got)
			}
		}
	}
}

func TestBytes_ReleaseFromManyGoroutines(t *testing.T) {
	t.Parallel()
	s := CopyString("secret")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(s.Release)
	}
	wg.Wait()
	mustPanic(t, func() { s.Reveal() })
}

func TestDo_RunsTheFunction(t *testing.T) {
	t.Parallel()
	var s Bytes
	Do(func() { s = CopyString("made inside") })
	if string(s.Reveal()) != "made inside" {
		t.Error("what the function made is not there after it returned")
	}
}
