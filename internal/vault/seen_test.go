package vault

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// The names that a list should hold are those that are borne, whatever came, went and was made anew, and wherever they are kept.
func TestSeen_NamesWithinAPage(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	s, borne := newSeen(), map[string]uuid.UUID{}
	name := func() string { return fmt.Sprintf("%c/%d", 'a'+random.IntN(3), random.IntN(60)) }
	for range 3000 {
		switch n := name(); random.IntN(4) {
		case 0:
			if id, ok := borne[n]; ok {
				s.buried(id, n, 2)
				delete(borne, n)
			}
		case 1:
			s.young, s.old = newSightings(), s.young // as when it is full
			for n, id := range borne {
				s.borne(n, s.tick) // what is looked at stays
				if _, ok := s.young.byID[id]; !ok {
					t.Fatalf("%s was looked at and will be forgotten", n)
				}
			}
		default:
			if _, ok := borne[n]; !ok {
				borne[n] = uuid.New()
				s.made(&db.VaultSecret{ID: borne[n], Name: n, Revision: 1})
			}
		}
		after, last, prefix := name(), name(), []string{"", "b/", "b/1"}[random.IntN(3)]
		if random.IntN(2) == 0 {
			last = ""
		}
		var want []string
		for n := range borne {
			if n > after && (last == "" || n <= last) && strings.HasPrefix(n, prefix) {
				want = append(want, n)
			}
		}
		slices.Sort(want)
		got := s.within(after, last, prefix, s.tick)
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Fatalf("past %q up to %q with %q there are %q, want %q", after, last, prefix, got, want)
		}
	}
	since := s.begin()
	s.made(&db.VaultSecret{ID: uuid.New(), Name: "later", Revision: 1})
	if got := s.within("", "", "later", since); len(got) != 0 {
		t.Errorf("%q was borne before it came", got)
	}
}

// What fills the memory is forgotten, oldest first, and what is kept stays bounded.
func TestSeen_IsBounded(t *testing.T) {
	t.Parallel()
	s := newSeen()
	looked := uuid.New()
	s.made(&db.VaultSecret{ID: looked, Name: "looked at", Revision: 1})
	for i := range 3 * maxSeen {
		n := fmt.Sprint(i)
		s.made(&db.VaultSecret{ID: uuid.New(), Name: n, Revision: 1})
		if i%1000 == 0 {
			s.borne("looked at", s.tick)
		}
		if i%10000 == 0 {
			s.within("", "1", "", s.tick)
		}
	}
	for _, g := range []*sightings{&s.young, &s.old} {
		if n := max(len(g.byID), len(g.byName), len(g.sorted)+len(g.added)); n > maxSeen/2 {
			t.Errorf("%d are kept in a half for %d", n, maxSeen/2)
		}
	}
	if id, ok := s.borne("looked at", s.tick); !ok || id != looked {
		t.Error("what is looked at was forgotten")
	}
}
