package kms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// counted is the real local keeper, counting calls, with something to do before each.
type counted struct {
	*Local
	decrypts atomic.Int64
	before   func(context.Context) error
}

func (k *counted) Decrypt(ctx context.Context, wrapped []byte, keyID string, ec Context) (sensitive.Bytes, error) {
	k.decrypts.Add(1)
	if k.before != nil {
		if err := k.before(ctx); err != nil {
			return sensitive.Bytes{}, err
		}
	}
	return k.Local.Decrypt(ctx, wrapped, keyID, ec)
}

func newCache(tb testing.TB, cfg CacheConfig) (*Cache, *counted) {
	tb.Helper()
	inner := &counted{Local: newLocal(tb, sequence(0, DataKeySize), nil)}
	if cfg.TTL == 0 {
		cfg.TTL = time.Minute
	}
	c, err := NewCache(inner, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c, inner
}

// version is the context of a version of one secret.
func version(n int64) Context {
	return NewContext(Text("use", "secret"), UUID("secret_id", [16]byte{1, 2, 3}), Text("name", "payments/db"), Int("version", n))
}

func make1(tb testing.TB, c *Cache, ec Context) DataKey {
	tb.Helper()
	key, err := c.GenerateDataKey(context.Background(), ec)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// read unwraps and checks a key, and gives it back.
func read(tb testing.TB, c *Cache, key DataKey, ec Context) {
	tb.Helper()
	got, err := c.Decrypt(context.Background(), key.Wrapped, key.KeyID, ec)
	if err != nil {
		tb.Fatal(err)
	}
	if !sensitive.Equal(got, key.Plaintext) {
		tb.Fatal("another key than the one that was wrapped")
	}
	got.Release()
}

func metric(tb testing.TB, r *prometheus.Registry, name, label string) float64 {
	tb.Helper()
	families, err := r.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name || (label != "" && (len(m.GetLabel()) == 0 || m.GetLabel()[0].GetValue() != label)) {
				continue
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	tb.Fatalf("no metric %s{%s}", name, label)
	return math.NaN()
}

func TestCache_AHitAsksNobody(t *testing.T) {
	t.Parallel()
	metrics := prometheus.NewRegistry()
	c, inner := newCache(t, CacheConfig{Metrics: metrics})
	key := make1(t, c, version(1))
	for range 5 {
		read(t, c, key, version(1))
	}
	if n := inner.decrypts.Load(); n != 1 {
		t.Errorf("five reads made %d calls", n)
	}
	for name, want := range map[[2]string]float64{
		{"sealkeep_dek_cache_lookups_total", "hit"}: 4, {"sealkeep_dek_cache_lookups_total", "miss"}: 1,
		{"sealkeep_dek_cache_entries", ""}: 1,
	} {
		if got := metric(t, metrics, name[0], name[1]); got != want {
			t.Errorf("%v is %v, want %v", name, got, want)
		}
	}
	if c.arena.locked == nil && metric(t, metrics, "sealkeep_dek_cache_memory_locked", "") != 1 {
		t.Error("the memory is locked, and the metric doesn't say so")
	}
}

func TestI5_AKeptKeyServesNoOtherPlace(t *testing.T) {
	t.Parallel()
	c, inner := newCache(t, CacheConfig{})
	key := make1(t, c, version(1))
	read(t, c, key, version(1))
	other := make1(t, c, version(2))
	read(t, c, other, version(2))
	before := inner.decrypts.Load()
	try := func(name string, wrapped []byte, keyID string, ec Context) {
		got, err := c.Decrypt(context.Background(), wrapped, keyID, ec)
		if err == nil || !got.IsZero() {
			t.Errorf("%s: a key came", name)
		}
	}
	id := [16]byte{1, 2, 3}
	try("another version", key.Wrapped, key.KeyID, version(2))
	try("another name", key.Wrapped, key.KeyID, NewContext(Text("use", "secret"), UUID("secret_id", id), Text("name", "payments/dc"), Int("version", 1)))
	try("another secret", key.Wrapped, key.KeyID, NewContext(Text("use", "secret"), UUID("secret_id", [16]byte{9}), Text("name", "payments/db"), Int("version", 1)))
	try("another use", key.Wrapped, key.KeyID, NewContext(Text("use", "integrity"), UUID("secret_id", id), Text("name", "payments/db"), Int("version", 1)))
	try("no context", key.Wrapped, key.KeyID, Context{})
	try("another master key", key.Wrapped, "local:0000000000000000", version(1))
	try("the key of another version", other.Wrapped, key.KeyID, version(1))
	damaged := bytes.Clone(key.Wrapped)
	damaged[len(damaged)-1] ^= 1
	try("a damaged one", damaged, key.KeyID, version(1))
	if n := inner.decrypts.Load() - before; n != 8 {
		t.Errorf("the keeper was asked %d times in 8", n)
	}
}

func TestCache_AKeyIsGoneSoonAfterItsTimeThoughNobodyAsks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, inner := newCache(t, CacheConfig{TTL: 10 * time.Second})
		first, second := make1(t, c, version(1)), make1(t, c, version(2))
		read(t, c, first, version(1))
		time.Sleep(4 * time.Second)
		read(t, c, second, version(2))
		borrowed, err := c.Decrypt(t.Context(), second.Wrapped, second.KeyID, version(2))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(6*time.Second - time.Nanosecond)
		read(t, c, first, version(1)) // reading it doesn't prolong its life
		if n := inner.decrypts.Load(); n != 2 || c.Len() != 2 {
			t.Fatalf("before its time: %d calls, %d kept", n, c.Len())
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if c.Len() != 1 || !zeroed(c.arena, first.Plaintext) {
			t.Fatalf("%d are kept after the first one's time, or it is in memory still", c.Len())
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if c.Len() != 0 || !sensitive.Equal(borrowed, second.Plaintext) {
			t.Fatal("the second is kept beyond its time, or was zeroed while it was used")
		}
		borrowed.Release()
		if !allZero(c.arena) {
			t.Error("keys are left in memory")
		}
		read(t, c, first, version(1))
		if n := inner.decrypts.Load(); n != 3 {
			t.Errorf("%d calls", n)
		}
	})
}

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

func TestCache_ConcurrentMissesMakeOneCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, inner := newCache(t, CacheConfig{})
		key := make1(t, c, version(1))
		release := make(chan struct{})
		inner.before = func(context.Context) error { <-release; return nil }
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() { read(t, c, key, version(1)) })
		}
		gone, leave := context.WithCancel(t.Context())
		var left error
		all.Go(func() { _, left = c.Decrypt(gone, key.Wrapped, key.KeyID, version(1)) })
		synctest.Wait()
		leave()
		synctest.Wait()
		if fault.KindOf(left) != fault.Unavailable || !errors.Is(left, context.Canceled) {
			t.Errorf("who left got %v", left)
		}
		close(release)
		all.Wait()
		if n := inner.decrypts.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
		c.Close()
		if !allZero(c.arena) && c.arena.memory != nil {
			t.Error("keys are left in memory")
		}
	})
}

func TestCache_TheFirstCallersEndIsNotTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, inner := newCache(t, CacheConfig{})
		key := make1(t, c, version(1))
		inner.before = func(ctx context.Context) error {
			select {
			case <-time.After(time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		first, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := c.Decrypt(first, key.Wrapped, key.KeyID, version(1)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the first got %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() { read(t, c, key, version(1)) })
		all.Wait()
		if n := inner.decrypts.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestCache_WhatNobodyWaitsForEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, inner := newCache(t, CacheConfig{})
		key := make1(t, c, version(1))
		var ended atomic.Int64
		inner.before = func(ctx context.Context) error { <-ctx.Done(); ended.Add(1); return ctx.Err() }
		ctx, leave := context.WithCancel(t.Context())
		go func() { _, _ = c.Decrypt(ctx, key.Wrapped, key.KeyID, version(1)) }()
		synctest.Wait()
		leave()
		synctest.Wait()
		if ended.Load() != 1 {
			t.Fatal("a call that nobody waits for goes on")
		}
		inner.before = nil
		read(t, c, key, version(1)) // and doesn't stand in the way of the next
	})
}

func TestCache_ErrorsAndPanicsAreNotKept(t *testing.T) {
	t.Parallel()
	c, inner := newCache(t, CacheConfig{})
	key := make1(t, c, version(1))
	down := fault.Wrap(fault.Unavailable, io.EOF, "")
	for name, f := range map[string]struct {
		before func(context.Context) error
		want   error
	}{
		"an error":                  {func(context.Context) error { return down }, down},
		"a panic":                   {func(context.Context) error { panic("boom") }, errPanicked},
		"an end without returning":  {func(context.Context) error { runtime.Goexit(); return nil }, errPanicked},
		"a panic of another nature": {func(context.Context) error { var m map[int]int; m[0] = 1; return nil }, errPanicked}, //nolint:staticcheck // that is the point
	} {
		inner.before = f.before
		if _, err := c.Decrypt(t.Context(), key.Wrapped, key.KeyID, version(1)); !errors.Is(err, f.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	inner.before = nil
	read(t, c, key, version(1))
	if n := inner.decrypts.Load(); n != 5 {
		t.Errorf("%d calls", n)
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

func TestNewCache_RefusesNoTime(t *testing.T) {
	t.Parallel()
	if _, err := NewCache(nil, CacheConfig{}); err == nil {
		t.Error("a cache that keeps nothing was made")
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

// What the race detector sees here is who zeroes and who reads.
func TestCache_UnderLoad(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, CacheConfig{Entries: 2 * cacheShards, TTL: time.Millisecond})
	keys := make([]DataKey, 200)
	for n := range keys {
		keys[n] = make1(t, c, version(int64(n)))
	}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for n := range 4000 {
				i := (n*7 + worker*31) % len(keys)
				read(t, c, keys[i], version(int64(i)))
			}
		})
	}
	all.Wait()
}

func BenchmarkCacheHit(b *testing.B) {
	c, _ := newCache(b, CacheConfig{})
	wrapped, keyID := make([]byte, 184), "arn:aws:kms:eu-central-1:111122223333:key/mrk-00112233445566778899aabbccddeeff"
	s := c.shard(ptr(fingerprint(wrapped, keyID, ptr(version(1)))))
	s.add(&entry{id: fingerprint(wrapped, keyID, ptr(version(1))), key: c.arena.put(sequence(1, DataKeySize)), expires: time.Now().Add(time.Hour)})
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			ec := NewContext(Text("use", "secret"), UUID("secret_id", [16]byte{1, 2, 3}), Text("name", "payments/db"), Int("version", 1))
			key, err := c.Decrypt(context.Background(), wrapped, keyID, ec)
			if err != nil {
				b.Error(err)
				return
			}
			key.Release()
		}
	})
}

func TestCache_AKeyWhoseTimeIsUpServesNobodyThoughTheJanitorIsLate(t *testing.T) {
	t.Parallel()
	var late atomic.Int64 // the janitor's timer is the real one, and an hour away
	c, inner := newCache(t, CacheConfig{TTL: time.Hour, Clock: func() time.Time { return time.Unix(0, late.Load()) }})
	key := make1(t, c, version(1))
	read(t, c, key, version(1))
	late.Store(int64(time.Hour) - 1)
	read(t, c, key, version(1))
	late.Store(int64(time.Hour))
	read(t, c, key, version(1))
	if n := inner.decrypts.Load(); n != 2 || c.Len() != 1 {
		t.Errorf("%d calls, %d kept", n, c.Len())
	}
}
