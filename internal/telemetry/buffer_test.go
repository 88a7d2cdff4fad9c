package telemetry

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sink is a writer that can be stuck.
type sink struct {
	mu      sync.Mutex
	text    bytes.Buffer
	writes  int
	blocked chan struct{} // writes wait until it is closed
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	blocked := s.blocked
	s.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	return s.text.Write(b)
}

func (s *sink) got() (text string, writes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String(), s.writes
}

func (s *sink) want(t *testing.T, text string, writes int) {
	t.Helper()
	if got, n := s.got(); got != text || n != writes {
		t.Errorf("%d writes: %.200q; want %d: %.200q", n, got, writes, text)
	}
}

func (s *sink) block() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked = make(chan struct{})
}

func (s *sink) unblock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.blocked)
	s.blocked = nil
}

// buffered runs a test with a buffer, in a time of its own.
func buffered(t *testing.T, test func(*testing.T, *Buffer, *sink)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		b := NewBuffer(s)
		defer b.Close()
		test(t, b, s)
	})
}

func put(t *testing.T, b *Buffer, line string) {
	t.Helper()
	if n, err := b.Write([]byte(line)); n != len(line) || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestBuffer(t *testing.T) {
	t.Parallel()
	t.Run("a line waits 50 ms for others", func(t *testing.T) {
		buffered(t, func(t *testing.T, b *Buffer, s *sink) {
			put(t, b, "a\n")
			time.Sleep(49 * time.Millisecond)
			put(t, b, "b\n")
			s.want(t, "", 0)
			time.Sleep(2 * time.Millisecond)
			s.want(t, "a\nb\n", 1)
			put(t, b, "c\n")
			time.Sleep(51 * time.Millisecond)
			s.want(t, "a\nb\nc\n", 2)
		})
	})
	t.Run("32 KiB don't wait", func(t *testing.T) {
		buffered(t, func(t *testing.T, b *Buffer, s *sink) {
			half := strings.Repeat("x", writeSize/2-1) + "\n"
			put(t, b, half)
			synctest.Wait()
			s.want(t, "", 0)
			put(t, b, half)
			synctest.Wait()
			s.want(t, half+half, 1)
		})
	})
	t.Run("Close writes what is held, and what comes later is written without delay", func(t *testing.T) {
		buffered(t, func(t *testing.T, b *Buffer, s *sink) {
			put(t, b, "a\n")
			b.Close()
			s.want(t, "a\n", 1)
			put(t, b, "b\n")
			synctest.Wait()
			s.want(t, "a\nb\n", 2)
			b.Close()
			s.want(t, "a\nb\n", 2)
		})
	})
	t.Run("warnings and errors are written when the call returns, what came before them first", func(t *testing.T) {
		buffered(t, func(t *testing.T, b *Buffer, s *sink) {
			log := NewLogger(b, slog.LevelInfo)
			log.Info("first")
			for i, l := range []slog.Level{slog.LevelWarn, slog.LevelError} {
				log.Log(t.Context(), l, "urgent")
				if text, writes := s.got(); writes != i+1 || strings.Count(text, "\n") != i+2 || !strings.Contains(text, "first") {
					t.Errorf("%d writes: %q", writes, text)
				}
			}
			if log.Info("x"); time.Since(time.Unix(946684800, 0)) != 0 {
				t.Error("that took time")
			}
		})
	})
	t.Run("a line that is being written counts as not yet written", func(t *testing.T) {
		buffered(t, func(t *testing.T, b *Buffer, s *sink) {
			s.block()
			put(t, b, "a\n")
			time.Sleep(writeDelay + 1)
			go func() {
				time.Sleep(10 * time.Millisecond)
				s.unblock()
			}()
			b.Close()
			s.want(t, "a\n", 1)
		})
	})
}

func TestStuckWriter(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("x", 1023) + "\n"
	t.Run("holds nobody up, and what is too much is dropped and counted", func(t *testing.T) {
		buffered(t, func(t *testing.T, b *Buffer, s *sink) {
			s.block()
			began := time.Now()
			const taken = (writeSize + maxHeld) / 1024
			for range taken + 7 {
				put(t, b, line)
				synctest.Wait()
			}
			if !time.Now().Equal(began) {
				t.Error("somebody waited")
			}
			s.unblock()
			synctest.Wait()
			text, _ := s.got()
			if got := strings.Count(text, line); got != taken {
				t.Errorf("%d lines were written; want %d", got, taken)
			}
			if want := `"level":"WARN","msg":"log lines were dropped, as the log could not be written","lines":7}` + "\n"; !strings.HasSuffix(text, want) {
				t.Errorf("it ends in %q", text[len(text)-200:])
			}
			put(t, b, "again\n")
			time.Sleep(time.Second)
			if text, _ := s.got(); !strings.HasSuffix(text, "7}\nagain\n") {
				t.Error("it doesn't go on")
			}
		})
	})
	t.Run("holds warnings up once, for a tenth of a second", func(t *testing.T) {
		buffered(t, func(t *testing.T, b *Buffer, s *sink) {
			s.block()
			log := NewLogger(b, slog.LevelInfo)
			for i, want := range []time.Duration{hurryPatience, 0, 0} {
				began := time.Now()
				log.Warn("urgent")
				if took := time.Since(began); took != want {
					t.Errorf("warning %d waited %s; want %s", i, took, want)
				}
			}
			s.unblock()
			time.Sleep(time.Second)
			log.Warn("urgent")
			if text, _ := s.got(); strings.Count(text, "urgent") != 4 {
				t.Error(text)
			}
			s.block()
			began := time.Now()
			log.Warn("urgent")
			if took := time.Since(began); took != hurryPatience {
				t.Errorf("after it had worked again, a warning waited %s", took)
			}
			s.unblock()
		})
	})
	t.Run("holds the end of the process up for a second", func(t *testing.T) {
		buffered(t, func(t *testing.T, b *Buffer, s *sink) {
			s.block()
			put(t, b, line)
			began := time.Now()
			b.Close()
			if took := time.Since(began); took != closePatience {
				t.Errorf("it took %s", took)
			}
			s.unblock()
		})
	})
}

func TestNoLineIsLostOrTorn(t *testing.T) {
	t.Parallel()
	s := &sink{}
	b := NewBuffer(s)
	log := NewLogger(b, slog.LevelInfo)
	const writers, each = 8, 500
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				level := slog.LevelInfo
				if i%50 == 0 {
					level = slog.LevelWarn
				}
				log.Log(t.Context(), level, "m", "id", fmt.Sprintf("%d-%d", w, i))
			}
		})
	}
	all.Wait()
	b.Close()
	seen := map[any]bool{}
	for _, l := range lines(t, &s.text) {
		seen[l["id"]] = true
	}
	if len(seen) != writers*each {
		t.Errorf("%d lines", len(seen))
	}
}
