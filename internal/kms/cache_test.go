package kms

import (
	"bytes"
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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

func TestNewCache_RefusesNoTime(t *testing.T) {
	t.Parallel()
	if _, err := NewCache(nil, CacheConfig{}); err == nil {
		t.Error("a cache that keeps nothing was made")
	}
}

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
