package kms

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Keeper generates and unwraps data keys: [Local], [AWS], or a [Cache] before one of them. All are safe for concurrent use.
type Keeper interface {
	// GenerateDataKey returns a fresh 256-bit key, also wrapped and bound to the encryption context.
	GenerateDataKey(ctx context.Context, ec Context) (DataKey, error)
	// Decrypt unwraps a data key; the caller releases it.
	Decrypt(ctx context.Context, wrapped []byte, keyID string, ec Context) (sensitive.Bytes, error)
	// WrapKey wraps a data key that exists already; it stays the caller's.
	WrapKey(ctx context.Context, key sensitive.Bytes, ec Context) (wrapped []byte, keyID string, err error)
	// KeyID names the key that new data keys are wrapped under.
	KeyID() string
	// Status tells how the KMS is.
	Status() Status
	// Close ends it; later calls fail.
	Close()
}

const (
	// DefaultCacheEntries bounds a cache's data keys unless its configuration does.
	DefaultCacheEntries = 1 << 16
	// cacheShards spreads the keys over as many locks; a power of two.
	cacheShards = 32
	// arenaSlack is how many keys may be in use that the cache has given up already.
	arenaSlack = 1024
)

// CacheConfig tunes a Cache.
type CacheConfig struct {
	// TTL is how long a data key is kept after it was unwrapped, used or not; above 0.
	TTL time.Duration
	// Entries bounds the data keys that are kept, 32 bytes of locked memory each; 0 means DefaultCacheEntries.
	Entries int
	Log     *slog.Logger          // nil: nothing is logged
	Metrics prometheus.Registerer // nil: metrics are kept but not registered
	// Clock gives local time with a monotonic reading; nil means time.Now.
	Clock func() time.Time
}

// Cache keeps the data keys that another keeper unwrapped, each for a limited time, so that most reads need no KMS and
// go on without one for a while. What GenerateDataKey gives isn't kept: the first read proves that what was stored opens.
//
// A key is found only by what it was unwrapped from: the wrapped key, the master key's id and the encryption context
// together (I5). Concurrent misses of one make one Decrypt of the inner keeper, which no caller's leaving ends while
// others wait. Errors aren't kept.
//
// Keys lie in locked memory outside the Go heap, and are zeroed when they expire, are evicted, or the cache is closed,
// as soon as nobody uses them. One whose time is up is gone within moments, also if nobody asks for it.
type Cache struct {
	inner Keeper
	ttl   time.Duration
	clock func() time.Time
	arena *arena
	m     cacheMetrics

	ctx      context.Context //nolint:containedctx // the cache's own lifetime, which flights stand on
	cancel   context.CancelFunc
	flying   sync.WaitGroup
	janitor  chan struct{} // closed when the janitor has ended
	shards   [cacheShards]shard
	closing  sync.Once
	inFlight sync.Mutex // guards flying against Close
	closed   bool
}

// NewCache returns a cache before inner, which stays the caller's to close, after the cache. Close ends it.
func NewCache(inner Keeper, cfg CacheConfig) (*Cache, error) {
	if cfg.TTL <= 0 {
		return nil, errors.New("kms: a cache keeps keys for longer than no time at all")
	}
	if cfg.Entries <= 0 {
		cfg.Entries = DefaultCacheEntries
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	perShard := (cfg.Entries + cacheShards - 1) / cacheShards
	memory, err := newArena(perShard*cacheShards + arenaSlack)
	if err != nil {
		return nil, err
	}
	if memory.locked != nil && cfg.Log != nil {
		cfg.Log.Warn("data keys are kept in memory that may be swapped out: raise the limit on locked memory (ulimit -l, LimitMEMLOCK=)",
			"bytes", len(memory.memory), "error", memory.locked)
	}
	c := &Cache{
		inner: inner, ttl: cfg.TTL, clock: cfg.Clock, arena: memory,
		janitor: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	for i := range c.shards {
		c.shards[i].init(perShard)
	}
	c.m = newCacheMetrics(cfg.Metrics, c.Len, memory.locked == nil)
	go c.expire()
	return c, nil
}

// KeyID is the inner keeper's.
func (c *Cache) KeyID() string { return c.inner.KeyID() }

// Status is the inner keeper's.
func (c *Cache) Status() Status { return c.inner.Status() }

// WrapKey is the inner keeper's.
func (c *Cache) WrapKey(ctx context.Context, key sensitive.Bytes, ec Context) (wrapped []byte, keyID string, err error) {
	return c.inner.WrapKey(ctx, key, ec)
}

// GenerateDataKey is the inner keeper's.
func (c *Cache) GenerateDataKey(ctx context.Context, ec Context) (DataKey, error) {
	return c.inner.GenerateDataKey(ctx, ec)
}

// Decrypt unwraps a data key, which the caller releases, from memory if it is there. Otherwise its errors are the inner
// keeper's, or of kind Unavailable if ctx is done first. wrapped is neither kept nor changed.
func (c *Cache) Decrypt(ctx context.Context, wrapped []byte, keyID string, ec Context) (sensitive.Bytes, error) {
	id := fingerprint(wrapped, keyID, &ec)
	s := c.shard(&id)
	s.mu.Lock()
	if e := s.entries[id]; e != nil && c.clock().Before(e.expires) {
		e.used = true
		key, ok := e.key.Borrow()
		s.mu.Unlock()
		if !ok { // the shard holds a reference of its own
			panic("kms: a key that is kept was zeroed")
		}
		c.m.hits.Inc()
		return key, nil
	}
	return c.miss(ctx, s, id, wrapped, keyID, &ec)
}

// Len tells how many data keys are kept.
func (c *Cache) Len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += len(s.entries)
		s.mu.Unlock()
	}
	return n
}

// Close forgets and zeroes every key; one that is in use is zeroed when its user releases it. It ends what is asked of
// the inner keeper and waits for that. Later calls fail. It is idempotent.
func (c *Cache) Close() {
	c.closing.Do(func() {
		c.inFlight.Lock()
		c.closed = true
		c.inFlight.Unlock()
		c.cancel()
		c.flying.Wait()
		<-c.janitor
		for i := range c.shards {
			s := &c.shards[i]
			s.mu.Lock()
			for s.oldest() != nil {
				s.remove(s.oldest())
			}
			s.mu.Unlock()
		}
		c.arena.close()
	})
}

// digest names a data key by everything that unwrapping it takes.
type digest [sha256.Size]byte

func fingerprint(wrapped []byte, keyID string, ec *Context) digest {
	var room [768]byte // more than most need; the rest costs an allocation
	b := canon.Text(canon.Bytes(canon.Start(room[:0], "sealkeep/dek-cache/v1"), wrapped), keyID)
	return sha256.Sum256(ec.appendTyped(b))
}

func (c *Cache) shard(id *digest) *shard { return &c.shards[id[0]%cacheShards] }

var (
	errPanicked = errors.New("kms: the keeper panicked")
	errKeySize  = errors.New("kms: a data key of another length than 32 bytes")
)

// unavailable is what a caller gets whose time is up.
func unavailable(err error) error {
	return fault.Wrap(fault.Unavailable, fmt.Errorf("kms: waiting for a data key: %w", err), "")
}
