package audit

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// A commit may take long after the statement has read the database's clock. What has expired there meanwhile must have
// expired here: the clock is never behind.
func TestI9_TheClockIsNotBehindAfterASlowCommit(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("api")
	must(t, trail.Change(t.Context(), addRole("first"))) // opens the lane
	f.db.Exec(t, `
		CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER dawdle AFTER UPDATE ON vault.audit_streams DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION public.dawdle()`)
	for name, commit := range map[string]func() error{
		"a round":  func() error { return trail.Append(t.Context(), record("slow")) },
		"a change": func() error { return trail.Change(t.Context(), addRole("slow")) },
	} {
		must(t, commit())
		there := one[time.Time](f, "SELECT clock_timestamp()")
		if here := trail.DatabaseTime(); here.Before(there) {
			t.Errorf("after %s it is %s there, and %s here", name, there.UTC().Format(time.StampMicro), here.Format(time.StampMicro))
		}
	}
}

// worlds is a database's clock and ours, and round trips between them.
type worlds struct {
	here  time.Time
	there func(here time.Time) time.Time
	clock *databaseClock
}

func newWorlds(there func(time.Time) time.Time) *worlds {
	w := &worlds{here: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), there: there}
	w.clock = &databaseClock{now: func() time.Time { return w.here }}
	return w
}

// trip makes a round trip whose statement runs after delay, and that is over after rest more.
func (w *worlds) trip(delay, rest time.Duration) {
	sent := w.here
	w.here = w.here.Add(delay)
	read := w.there(w.here)
	w.here = w.here.Add(rest)
	w.clock.observe(read, sent)
}

// ahead is how far ahead of the database's our idea of its clock is.
func (w *worlds) ahead() time.Duration { return w.clock.read().Sub(w.there(w.here)) }

func TestI9_TheClockFollowsTheQuickestRoundTrip(t *testing.T) {
	t.Parallel()
	const quick, slow = 200 * time.Microsecond, 90 * time.Millisecond
	w := newWorlds(func(here time.Time) time.Time { return here.Add(time.Hour) })
	w.trip(slow, 0)
	if got := w.ahead(); got < slow {
		t.Errorf("after a slow one it is %v ahead", got)
	}
	w.trip(quick, slow)
	for range 20 {
		w.trip(slow, slow)
	}
	if got, most := w.ahead(), quick+20*2*slow/maxDrift+time.Millisecond; got < 0 || got > most {
		t.Errorf("after one that ran at once it is %v ahead, not at most %v", got, most)
	}
}

func TestI9_TheClockFollowsWhenTheDatabasesIsSet(t *testing.T) {
	t.Parallel()
	offset := time.Duration(0)
	w := newWorlds(func(here time.Time) time.Time { return here.Add(offset) })
	w.trip(0, time.Millisecond)
	for _, offset = range []time.Duration{time.Hour, -time.Hour, 5 * time.Millisecond, 0} {
		w.trip(0, time.Millisecond)
		if got := w.ahead(); got < 0 || got > time.Millisecond {
			t.Errorf("set to %v it is %v ahead", offset, got)
		}
	}
}

// What was known of one server says nothing of another.
func TestI9_TheClockIsThatOfTheServerThatWasMet(t *testing.T) {
	t.Parallel()
	offset := time.Duration(0)
	w := newWorlds(func(here time.Time) time.Time { return here.Add(offset) })
	w.trip(0, time.Millisecond)
	offset = time.Millisecond // less than the round trip takes, so that times alone don't tell
	sent := w.here
	w.here = w.here.Add(10 * time.Millisecond)
	w.clock.meet(db.ServerIdentityRow{SystemID: "another", Timeline: 1, ReadAt: w.there(w.here)}, sent)
	if got := w.ahead(); got < 0 {
		t.Errorf("it is behind by %v", -got)
	}
	w.trip(0, time.Millisecond)
	sent = w.here
	w.here = w.here.Add(time.Second)
	w.clock.meet(db.ServerIdentityRow{SystemID: "another", Timeline: 1, ReadAt: w.there(w.here)}, sent)
	if got := w.ahead(); got > 2*time.Millisecond {
		t.Errorf("a slow connection to the same server puts it ahead by %v", got)
	}
}

// However long round trips take and wait, and as much as the clocks differ in pace.
func TestI9_TheClockIsNeverBehind(t *testing.T) {
	t.Parallel()
	for _, pace := range []time.Duration{-maxDrift, 10 * maxDrift, maxDrift + 1} {
		random := rand.New(rand.NewPCG(1, uint64(pace)))
		began := time.Time{}
		w := newWorlds(func(here time.Time) time.Time {
			if began.IsZero() {
				began = here
			}
			return here.Add(here.Sub(began) / pace)
		})
		upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
		for range 10_000 {
			w.trip(upTo(upTo(time.Second)+1), upTo(time.Second))
			w.here = w.here.Add(upTo(time.Second))
			if got := w.ahead(); got < -time.Microsecond { // which is what it counts in
				t.Fatalf("at a pace of 1/%d it is behind by %v", pace, -got)
			}
		}
	}
}
