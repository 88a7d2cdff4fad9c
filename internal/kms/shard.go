package kms

import (
	"sync"
	"time"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// entry is a data key that is kept.
type entry struct {
	id      digest
	key     *sensitive.Shared
	expires time.Time
	used    bool // since it was last looked at for eviction

	older, newer *entry
}

// shard is a part of the cache. Its entries lie in a ring in the order in which they were unwrapped, which is that in which
// they expire, as all live equally long.
type shard struct {
	mu      sync.Mutex
	limit   int
	entries map[digest]*entry
	ring    entry  // its neighbours are the oldest and the newest
	hand    *entry // where eviction goes on, or the ring
	flights map[digest]*flight
	_       [64]byte // so that no two locks share a cache line
}

func (s *shard) init(limit int) {
	s.limit = limit
	s.entries = make(map[digest]*entry)
	s.flights = make(map[digest]*flight)
	s.ring.older, s.ring.newer, s.hand = &s.ring, &s.ring, &s.ring
}

// oldest is the entry that expires first, nil if there is none. The shard is locked.
func (s *shard) oldest() *entry {
	if s.ring.newer == &s.ring {
		return nil
	}
	return s.ring.newer
}

// add keeps an entry, in place of one of the same id, and tells how many others had to go for it. The shard is locked.
func (s *shard) add(e *entry) (evicted int) {
	if before := s.entries[e.id]; before != nil {
		s.remove(before)
	}
	for len(s.entries) >= s.limit {
		s.remove(s.victim())
		evicted++
	}
	s.entries[e.id] = e
	e.older, e.newer = s.ring.older, &s.ring
	e.older.newer, e.newer.older = e, e
	return evicted
}

// victimTries bounds how far eviction looks for an entry that wasn't used.
const victimTries = 8

// victim chooses what to evict from a shard that isn't empty: going around from where it was last, the first entry that
// wasn't used since it last passed, or the one that it has come to after a few.
func (s *shard) victim() *entry {
	for range victimTries {
		e := s.at()
		if !e.used {
			return e
		}
		e.used = false
		s.hand = e.newer
	}
	return s.at()
}

// at is the entry that eviction looks at next.
func (s *shard) at() *entry {
	if s.hand == &s.ring {
		s.hand = s.ring.newer
	}
	return s.hand
}

// remove forgets an entry and gives up its key. The shard is locked.
func (s *shard) remove(e *entry) {
	delete(s.entries, e.id)
	if s.hand == e {
		s.hand = e.newer
	}
	e.older.newer, e.newer.older = e.newer, e.older
	e.key.Release()
}

// expire removes what is over at a time, and tells how many that were and when the next one is.
func (s *shard) expire(now time.Time) (removed int, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.oldest(); e != nil; e = s.oldest() {
		if now.Before(e.expires) {
			return removed, e.expires
		}
		s.remove(e)
		removed++
	}
	return removed, time.Time{}
}

// expire is the janitor: it sleeps until the next key's time is up.
func (c *Cache) expire() {
	defer close(c.janitor)
	timer := time.NewTimer(c.ttl)
	defer timer.Stop()
	for {
		now := c.clock()
		sleep := c.ttl // what comes later expires later than that
		for i := range c.shards {
			removed, next := c.shards[i].expire(now)
			c.m.expired.Add(float64(removed))
			if !next.IsZero() {
				sleep = min(sleep, next.Sub(now))
			}
		}
		timer.Reset(sleep)
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			return
		}
	}
}
