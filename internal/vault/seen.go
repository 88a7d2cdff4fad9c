package vault

import (
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// maxSeen bounds the secrets that are remembered, about.
const maxSeen = 64 << 10

// seen remembers how far secrets had come when this process last read or changed them, and by which MAC, so that an older state of
// one, put back whole and with every MAC true, is told from the current one, and so is another state of the same revision; and which
// names were taken, so that a secret that is merely gone is told from one that was deleted. What this process never saw, or has
// forgotten, it can't tell.
type seen struct {
	mu         sync.Mutex
	tick       int64
	young, old sightings // once young is full it becomes old, and the old ones are forgotten
}

type sightings struct {
	byID   map[uuid.UUID]sighting
	byName map[string]uuid.UUID
	// The names that are, or were, in byName: those in order, and those that came since. No more than byID ever had.
	sorted, added []string
}

type sighting struct {
	name     string
	revision int64
	mac      [32]byte // of the secret's row; zero once it is gone
	at       int64    // the tick
	gone     bool     // it was deleted, which is for good
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

// made remembers a state that this process has brought about.
func (s *seen) made(row *db.VaultSecret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(row.ID, sightingOf(row))
}

// buried remembers that a secret was deleted, by the revision that says so.
func (s *seen) buried(id uuid.UUID, name string, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(id, sighting{name: name, revision: revision, gone: true})
}

func sightingOf(row *db.VaultSecret) sighting {
	one := sighting{name: row.Name, revision: row.Revision}
	copy(one.mac[:], row.Mac)
	return one
}

// note remembers a state unless a later one is known.
func (s *seen) note(id uuid.UUID, one sighting) {
	known, ok := s.find(id)
	if ok && (known.gone || known.revision > one.revision || known.revision == one.revision && !one.gone) {
		return
	}
	if known.name == one.name {
		one.name = known.name // the same bytes as before, which byName has as well
	}
	s.tick++
	one.at = s.tick
	s.keep(id, one)
}

// keep puts a sighting among the young ones.
func (s *seen) keep(id uuid.UUID, one sighting) {
	if len(s.young.byID) >= maxSeen/2 {
		s.young, s.old = newSightings(), s.young
	}
	s.young.byID[id] = one
	if !one.gone {
		if _, known := s.young.byName[one.name]; !known {
			s.young.added = append(s.young.added, one.name)
		}
		s.young.byName[one.name] = id
		return
	}
	for _, g := range []*sightings{&s.young, &s.old} {
		if g.byName[one.name] == id {
			delete(g.byName, one.name)
		}
	}
}

// find gives the last sighting, and keeps it from being forgotten soon.
func (s *seen) find(id uuid.UUID) (sighting, bool) {
	one, ok := s.young.byID[id]
	if ok {
		return one, true
	}
	if one, ok = s.old.byID[id]; ok {
		s.keep(id, one) // what is looked at again stays
	}
	return one, ok
}

// bearer gives the secret that bears a name as far as is known.
func (s *seen) bearer(name string) (id uuid.UUID, known sighting, ok bool) {
	for _, g := range []*sightings{&s.young, &s.old} {
		if id, ok = g.byName[name]; ok {
			known, ok = s.find(id)
			return id, known, ok && !known.gone
		}
	}
	return id, known, false
}

// verdict is what is known of a state that was read.
type verdict uint8

const (
	plausible verdict = iota // nothing is known against it
	unsure                   // a newer one was learnt of while it was read
	older                    // a newer one was known before it was read
	forked                   // another one of the same revision is known
	replaced                 // another secret bore its name before it was read, and isn't known to have been deleted
)

// see holds a state that was read after begin returned since against what is remembered, and remembers it if it is plausible. Both at
// once: of two states of one revision that are read at the same time only one is taken.
func (s *seen) see(row *db.VaultSecret, since int64) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := sightingOf(row)
	known, ok := s.find(row.ID)
	switch {
	case ok && !known.gone && known.revision == one.revision:
		if known.mac != one.mac {
			return forked // whenever it was learnt of: a revision is made once
		}
		return plausible
	case ok && (known.gone || known.revision > one.revision):
		return unsureOr(older, known, since)
	}
	if id, other, ok := s.bearer(one.name); ok && id != row.ID {
		return unsureOr(replaced, other, since)
	}
	s.note(row.ID, one)
	return plausible
}

func unsureOr(v verdict, known sighting, since int64) verdict {
	if known.at > since {
		return unsure
	}
	return v
}

// borne gives the secret that bore a name before since and isn't known to have been deleted.
func (s *seen) borne(name string, since int64) (uuid.UUID, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, known, ok := s.bearer(name)
	return id, ok && known.at <= since
}

// within gives the names that were borne before since, past after, up to last if that isn't empty, and begin with prefix.
func (s *seen) within(after, last, prefix string, since int64) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, g := range []*sightings{&s.young, &s.old} {
		for _, name := range g.from(max(after, prefix)) {
			if last != "" && name > last || !strings.HasPrefix(name, prefix) {
				break
			}
			if id, ok := g.byName[name]; !ok || name == after || g.byID[id].at > since {
				continue
			}
			names = append(names, name)
		}
	}
	return names
}

// from gives the names in order, from one on; some may no longer be borne. A list reads some hundred of them, so they are sorted when one
// is asked for, and only those that have come since the last.
func (g *sightings) from(name string) []string {
	if len(g.added) > 0 {
		slices.Sort(g.added)
		g.sorted = slices.Compact(merge(g.sorted, g.added))
		g.added = nil
	}
	at, _ := slices.BinarySearch(g.sorted, name)
	return g.sorted[at:]
}

// merge joins two sorted lists.
func merge(a, b []string) []string {
	all := make([]string, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0] <= b[0] {
			all, a = append(all, a[0]), a[1:]
		} else {
			all, b = append(all, b[0]), b[1:]
		}
	}
	return append(append(all, a...), b...)
}
