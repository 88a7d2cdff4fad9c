package vault

import (
	"strings"
	"sync"

	"github.com/google/uuid"
)

// maxSeen bounds the secrets that are remembered, about.
const maxSeen = 64 << 10

// seen remembers how far secrets had come when this process last read or changed them, so that an older state of one, put back
// whole and with every MAC true, is told from the current one; and which names were taken, so that a secret that is merely gone
// is told from one that was deleted. What this process never saw, or has forgotten, it can't tell.
type seen struct {
	mu         sync.Mutex
	tick       int64
	young, old sightings // once young is full it becomes old, and the old ones are forgotten
}

type sightings struct {
	byID   map[uuid.UUID]sighting
	byName map[string]uuid.UUID
}

type sighting struct {
	revision int64
	at       int64 // the tick
	gone     bool  // it was deleted, which is for good
}

func newSightings() sightings {
	return sightings{byID: map[uuid.UUID]sighting{}, byName: map[string]uuid.UUID{}}
}

func newSeen() *seen { return &seen{young: newSightings(), old: newSightings()} }

// begin marks the moment before something is read: what is learnt later may be newer than what is read.
func (s *seen) begin() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick++
	return s.tick
}

// note remembers a state that was read or made.
func (s *seen) note(id uuid.UUID, name string, revision int64, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.find(id); ok && (known.revision > revision || known.revision == revision && known.gone == gone) {
		return
	}
	s.tick++
	if len(s.young.byID) >= maxSeen/2 {
		s.young, s.old = newSightings(), s.young
	}
	s.young.byID[id] = sighting{revision: revision, at: s.tick, gone: gone}
	if gone {
		for _, g := range []sightings{s.young, s.old} {
			if g.byName[name] == id {
				delete(g.byName, name)
			}
		}
		return
	}
	s.young.byName[name] = id
}

// find gives the last sighting, and keeps it from being forgotten soon.
func (s *seen) find(id uuid.UUID) (sighting, bool) {
	one, ok := s.young.byID[id]
	if !ok {
		if one, ok = s.old.byID[id]; ok {
			s.young.byID[id] = one // and what is looked at again stays
		}
	}
	return one, ok
}

// verdict is what is known of a state that was read.
type verdict uint8

const (
	plausible verdict = iota // nothing is known against it
	unsure                   // a newer one was learnt of while it was read
	older                    // a newer one was known before it was read
)

// judge holds a state that was read after begin returned since against what is remembered.
func (s *seen) judge(id uuid.UUID, revision, since int64) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.find(id)
	switch {
	case !ok || known.revision <= revision && !known.gone:
		return plausible
	case known.at > since:
		return unsure
	default:
		return older
	}
}

// borne gives the secret that bore a name before since and isn't known to have been deleted.
func (s *seen) borne(name string, since int64) (uuid.UUID, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.young.byName[name]
	if !ok {
		id, ok = s.old.byName[name]
	}
	if !ok {
		return id, false
	}
	known, ok := s.find(id)
	return id, ok && !known.gone && known.at <= since
}

// within gives the names that were borne before since, past after, up to last if that isn't empty, and begin with prefix.
func (s *seen) within(after, last, prefix string, since int64) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, g := range []sightings{s.young, s.old} {
		for name, id := range g.byName {
			if name <= after || last != "" && name > last || !strings.HasPrefix(name, prefix) {
				continue
			}
			if known, ok := s.find(id); ok && !known.gone && known.at <= since {
				names = append(names, name)
			}
		}
	}
	return names
}
