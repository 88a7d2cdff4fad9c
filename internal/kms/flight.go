package kms

import (
	"context"
	"fmt"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// flight is one Decrypt of the inner keeper, for all callers that wait for the same key. It ends when it is over or when the last
// of them has left.
type flight struct {
	done    chan struct{} // closed once key and err are set
	cancel  context.CancelFunc
	waiting int // callers; the shard's lock guards it

	key *sensitive.Shared // the flight's own reference, given up by the last caller
	err error
}

// miss joins the flight of a key that isn't kept, or starts it. The shard is locked by the caller, and unlocked here.
func (c *Cache) miss(ctx context.Context, s *shard, id digest, wrapped []byte, keyID string, ec *Context) (sensitive.Bytes, error) {
	c.m.misses.Inc()
	f := s.flights[id]
	if f == nil {
		var err error
		if f, err = c.start(ctx, s, id, wrapped, keyID, *ec); err != nil {
			s.mu.Unlock()
			return sensitive.Bytes{}, err
		}
	}
	f.waiting++
	s.mu.Unlock()

	var key sensitive.Bytes
	var err error
	select {
	case <-f.done:
		if err = f.err; err == nil {
			key, _ = f.key.Borrow()
		}
	case <-ctx.Done():
		err = unavailable(ctx.Err())
	}
	c.leave(s, id, f)
	return key, err
}

// start starts a flight. It goes on without its first caller, so it has the caller's values but not its end. The shard
// is locked.
func (c *Cache) start(ctx context.Context, s *shard, id digest, wrapped []byte, keyID string, ec Context) (*flight, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable(err)
	}
	c.inFlight.Lock()
	defer c.inFlight.Unlock()
	if c.closed {
		return nil, fault.Wrap(fault.Internal, ErrClosed, "")
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(c.ctx, cancel)
	f := &flight{done: make(chan struct{}), cancel: func() { stop(); cancel() }}
	s.flights[id] = f
	// The caller may be gone, and its buffer changed, before the keeper is done with it.
	wrapped = append([]byte(nil), wrapped...)
	c.flying.Go(func() { c.fly(own, s, id, f, wrapped, keyID, ec) })
	return f, nil
}

// fly makes the one call and lands whatever comes of it, so that nobody waits in vain.
func (c *Cache) fly(ctx context.Context, s *shard, id digest, f *flight, wrapped []byte, keyID string, ec Context) {
	var key *sensitive.Shared
	err := error(fault.Wrap(fault.Internal, errPanicked, "")) // of a goroutine that ends without returning
	defer func() {
		if p := recover(); p != nil {
			err = fault.Wrap(fault.Internal, fmt.Errorf("%w: %v", errPanicked, p), "")
		}
		c.land(s, id, f, key, err)
	}()
	key, err = c.unwrap(ctx, wrapped, keyID, ec)
}

func (c *Cache) unwrap(ctx context.Context, wrapped []byte, keyID string, ec Context) (*sensitive.Shared, error) {
	key, err := c.inner.Decrypt(ctx, wrapped, keyID, ec)
	if err != nil {
		return nil, err
	}
	defer key.Release()
	if key.Len() != DataKeySize {
		return nil, fault.Wrap(fault.Internal, errKeySize, "")
	}
	var kept *sensitive.Shared
	sensitive.Do(func() { kept = c.arena.put(key.Reveal()) })
	return kept, nil
}

// land keeps the key and lets the callers go.
func (c *Cache) land(s *shard, id digest, f *flight, key *sensitive.Shared, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights[id] == f {
		delete(s.flights, id)
	}
	f.cancel()
	f.key, f.err = key, err
	close(f.done)
	if key == nil {
		return
	}
	if f.waiting == 0 { // everyone left, and the shard's lock says that nobody comes
		key.Release()
		return
	}
	key.Retain() // the entry is an owner beside the flight
	c.m.evicted.Add(float64(s.add(&entry{id: id, key: key, expires: c.clock().Add(c.ttl)})))
}

// leave takes a caller off a flight. The last one gives up the flight's key, and ends it if it isn't over: later callers then
// start another.
func (c *Cache) leave(s *shard, id digest, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	select {
	case <-f.done:
		if f.key != nil {
			f.key.Release()
		}
	default:
		if s.flights[id] == f {
			delete(s.flights, id)
		}
		f.cancel()
	}
}
