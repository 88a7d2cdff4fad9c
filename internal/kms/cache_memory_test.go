package kms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// zeroed tells whether a key is nowhere in the arena.
func zeroed(a *arena, key sensitive.Bytes) bool { return !bytes.Contains(a.memory, key.Reveal()) }

func allZero(a *arena) bool { return bytes.Count(a.memory, []byte{0}) == len(a.memory) }

func TestCache_IsBounded(t *testing.T) {
	t.Parallel()
	metrics := prometheus.NewRegistry()
	c, inner := newCache(t, CacheConfig{Entries: cacheShards, Metrics: metrics}) // one for each shard
	for n := range int64(500) {
		key := make1(t, c, version(n))
		read(t, c, key, version(n))
		read(t, c, key, version(n))
	}
	if n := c.Len(); n > cacheShards || n == 0 {
		t.Errorf("%d are kept", n)
	}
	if n := inner.decrypts.Load(); n != 500 {
		t.Errorf("%d calls", n)
	}
	if got := metric(t, metrics, "sealkeep_dek_cache_evictions_total", "size"); got != float64(500-c.Len()) {
		t.Errorf("%v evictions, %d kept", got, c.Len())
	}
	if used := c.arena.slots - len(c.arena.free); used != c.Len() {
		t.Errorf("%d slots are taken by %d keys", used, c.Len())
	}
}

func TestShard_EvictionSparesWhatIsUsed(t *testing.T) {
	t.Parallel()
	var s shard
	s.init(4)
	put := func(n byte) { s.add(&entry{id: digest{n}, key: sensitive.NewShared([]byte{n}, nil)}) }
	for n := range byte(4) {
		put(n)
	}
	s.entries[digest{0}].used = true
	s.entries[digest{1}].used = true
	put(4)
	put(5)
	for n, want := range []bool{true, true, false, false, true, true} {
		if _, ok := s.entries[digest{byte(n)}]; ok != want {
			t.Errorf("entry %d: kept is %t", n, ok)
		}
	}
	put(5) // in its own place
	if len(s.entries) != 4 {
		t.Errorf("%d entries", len(s.entries))
	}
}

func TestCache_Close(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, inner := newCache(t, CacheConfig{})
		first, second := make1(t, c, version(1)), make1(t, c, version(2))
		read(t, c, first, version(1))
		borrowed, err := c.Decrypt(t.Context(), first.Wrapped, first.KeyID, version(1))
		if err != nil {
			t.Fatal(err)
		}
		inner.before = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		var waiting error
		go func() { _, waiting = c.Decrypt(context.Background(), second.Wrapped, second.KeyID, version(2)) }()
		synctest.Wait()
		c.Close()
		c.Close()
		synctest.Wait()
		if !errors.Is(waiting, context.Canceled) {
			t.Errorf("who waited got %v", waiting)
		}
		if !sensitive.Equal(borrowed, first.Plaintext) {
			t.Error("a key was zeroed while it was used")
		}
		borrowed.Release()
		if c.arena.memory != nil || c.Len() != 0 {
			t.Error("the memory is held though nothing is in it")
		}
		_, err = c.Decrypt(t.Context(), first.Wrapped, first.KeyID, version(1))
		wantFault(t, err, fault.Internal, ErrClosed)
	})
}

func TestCache_GoesOnWhenItsMemoryIsFull(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, CacheConfig{Entries: cacheShards})
	var held []sensitive.Bytes
	for n := range int64(c.arena.slots + 10) {
		key := make1(t, c, version(n))
		got, err := c.Decrypt(t.Context(), key.Wrapped, key.KeyID, version(n))
		if err != nil || !sensitive.Equal(got, key.Plaintext) {
			t.Fatalf("key %d: %v", n, err)
		}
		held = append(held, got)
	}
	for _, key := range held {
		key.Release()
	}
}

func TestI1_ACachePrintsNoKey(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, CacheConfig{})
	key := make1(t, c, version(1))
	read(t, c, key, version(1))
	s := c.shard(ptr(fingerprint(key.Wrapped, key.KeyID, ptr(version(1)))))
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		var text string
		for _, e := range s.entries {
			text += fmt.Sprintf(format, e) + fmt.Sprintf(format, e.key)
		}
		k := key.Plaintext.Reveal()[:8]
		if strings.Contains(text, fmt.Sprintf("%x", k)) || strings.Contains(text, strings.Trim(fmt.Sprint(k), "[]")) || text == "" {
			t.Errorf("%s shows a key", format)
		}
	}
}

func ptr[T any](v T) *T { return &v }
