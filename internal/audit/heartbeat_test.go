package audit

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/randomness"
)

// handClock is a clock that stands still until it is moved.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func newHandClock() *handClock { return &handClock{now: time.Now()} }

func (c *handClock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// pass lets time pass for a Trail's own purposes, while the database's clock stays where it is.
func (f *fixture) pass(trail *Trail, clock *handClock, d time.Duration) {
	f.t.Helper()
	clock.move(d)
	trail.clock.observe(one[time.Time](f, "SELECT clock_timestamp()"), trail.cfg.Clock())
}

// beating is a Trail of which only the appenders run: its heart beats when the test says so.
func (f *fixture) beating(process string, tune ...func(*Config)) *Trail {
	f.t.Helper()
	trail := f.trail(process, tune...)
	f.runAppender(trail.reads)
	f.runAppender(trail.denials)
	trail.changes.start()
	f.awaitReady(trail)
	return trail
}

type beatRow struct {
	Stream uuid.UUID
	Seq    int64
	Detail []byte
}

// beats gives the heartbeats of a process in their order.
func (f *fixture) beats(process string) []beatRow {
	f.t.Helper()
	return pgtest.Query[beatRow](f.t, f.db, `SELECT stream_id, seq, detail FROM vault.audit_log
		WHERE action = $1 AND actor = 'process:' || $2 ORDER BY at, seq`, ActionHeartbeat, process)
}

func (b beatRow) heads(t testing.TB) map[string]seenHead {
	t.Helper()
	var seen heartbeat
	must(t, json.Unmarshal(b.Detail, &seen))
	heads := map[string]seenHead{}
	for _, h := range seen.Heads {
		heads[h.Stream] = h
	}
	return heads
}

func TestI10_HeartFollowsActivity(t *testing.T) {
	t.Parallel()
	f := setup(t)
	clock := newHandClock()
	trail := f.beating("heart", func(c *Config) { c.Clock = clock.read })
	last := pulse{at: clock.read()}
	expect := func(what string, want int) {
		t.Helper()
		trail.beat(t.Context(), &last)
		if got := len(f.beats("heart")); got != want {
			t.Errorf("%s: %d heartbeats, not %d", what, got, want)
		}
		f.pass(trail, clock, beatEvery)
	}
	expect("idle since the start", 0)
	must(t, trail.Append(t.Context(), record("read")))
	expect("after a read", 1)
	expect("idle after a heartbeat, which is no activity", 1)
	expect("idle", 1)
	must(t, trail.Change(t.Context(), addRole("change")))
	expect("after a change", 2)
	trail.Deny(t.Context(), record("denial"))
	expect("after a denial", 3)
	must(t, trail.Change(t.Context(), addRole("another")))
	trail.reads.ready.Store(false) // right before the beat: the loop makes it ready again at its next turn
	expect("not ready", 3)
	trail.reads.ready.Store(true)
	expect("what was missed is made up for", 4)
	f.pass(trail, clock, restEvery)
	expect("after long idleness", 5)
	expect("idle again", 5)
	f.clean()
}

func TestI10_HeartbeatsCarryAllOpenHeads(t *testing.T) {
	t.Parallel()
	f := setup(t)
	first, other := f.beating("first"), f.beating("other")
	for _, trail := range []*Trail{first, other} {
		must(t, trail.Append(t.Context(), record("read")))
		must(t, trail.Change(t.Context(), addRole("change of "+trail.cfg.Process)))
		trail.Deny(t.Context(), record("denial"))
	}
	f.reap(f.streams(kindChange)[1].ID)

	type row struct {
		ID  string
		Seq int64
		MAC string
	}
	heads := func(where string) []row {
		return pgtest.Query[row](t, f.db, `SELECT stream_id::text, head_seq, encode(head_mac, 'hex')
			FROM vault.audit_streams WHERE `+where)
	}
	carries := func(what string, beat int, want []row) {
		t.Helper()
		seen := f.beats("first")[beat].heads(t)
		if len(seen) != len(want) {
			t.Errorf("%s: the heartbeat carries %d heads of %d", what, len(seen), len(want))
		}
		for _, s := range want {
			if got := seen[s.ID]; got.Seq != s.Seq || got.MAC != s.MAC {
				t.Errorf("%s: stream %s is at %d %s, the heartbeat says %d %s", what, s.ID, s.Seq, s.MAC, got.Seq, got.MAC)
			}
		}
	}
	open, all := heads("state = 'open'"), heads("true")
	if len(open) != 5 || len(all) != 6 {
		t.Fatalf("%d streams are open of %d", len(open), len(all))
	}
	var last pulse
	first.beat(t.Context(), &last)
	carries("a process's first beat witnesses every stream", 0, all)

	must(t, first.Append(t.Context(), record("another")))
	want := heads("state = 'open'")
	last.database = last.database.Add(time.Hour) // so that nothing was closed since
	first.beat(t.Context(), &last)
	carries("a later one those that are open", 1, want)

	must(t, first.Append(t.Context(), record("yet another")))
	want = heads("true")
	last.database = last.database.Add(-time.Hour)
	first.beat(t.Context(), &last)
	carries("and those that were closed since", 2, want)
	f.clean()
}

func TestI10_NobodyVouchesForAHeadThatIsNotOurs(t *testing.T) {
	t.Parallel()
	f := setup(t)
	first, other := f.beating("first"), f.beating("other")
	must(t, other.Append(t.Context(), record("read")))
	must(t, first.Append(t.Context(), record("read")))
	idle := one[uuid.UUID](f, "SELECT stream_id FROM vault.audit_streams WHERE kind = 'denial' AND process = 'other'")
	// What the API's own login may do: move a head to an invented record, and back.
	f.db.Exec(t, "UPDATE vault.audit_streams SET head_seq = 5000, head_mac = sha256('x') WHERE stream_id = $1", idle)
	first.beat(t.Context(), &pulse{})
	if _, seen := f.beats("first")[0].heads(t)[idle.String()]; seen {
		t.Error("the heartbeat vouches for an invented head")
	}
	if !strings.Contains(f.log.String(), "not one that this vault wrote") {
		t.Error("there was no alarm")
	}
	other.tidyOnce(t.Context())
	f.db.Exec(t, "UPDATE vault.audit_streams SET head_at = now() - interval '2 hours' WHERE stream_id = $1", idle)
	first.tidyOnce(t.Context())
	eventually(t, "the resolver is done", func() bool { return first.Stats().StreamsInDoubt == 0 })
	for _, s := range f.streams(kindDenial) {
		if s.ID == idle && s.State != "open" {
			t.Error("a closing record was signed behind an invented head")
		}
	}
}

func TestI10_HeartbeatOfVeryManyStreamsStaysWithinItsBound(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.beating("crowded")
	tx, err := trail.db.Begin(t.Context())
	must(t, err)
	server, err := tx.ServerIdentity(t.Context())
	must(t, err)
	for range 1000 {
		l, row, err := newLane(trail.keys, trail.vaultID, "crowd", kindRead, server, nil, randomness.Reader)
		must(t, err)
		l.release()
		must(t, tx.OpenStream(t.Context(), row))
	}
	_, err = tx.Commit(t.Context())
	must(t, err)
	trail.beat(t.Context(), &pulse{})
	heads := map[string]seenHead{}
	beats := f.beats("crowded")
	for _, b := range beats {
		for id, h := range b.heads(t) {
			heads[id] = h
		}
	}
	if len(beats) != 3 || len(heads) != 1002 {
		t.Errorf("%d heads in %d records", len(heads), len(beats))
	}
}

func TestI10_StreamsThatStoodStillAreClosedByOthers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	dead, alive := f.beating("dead"), f.beating("alive")
	must(t, dead.Append(t.Context(), record("of the dead")))
	// Only head_at tells how long a stream stood still. What is set back here is put back below for verification.
	f.db.Exec(t, "UPDATE vault.audit_streams SET head_at = head_at - interval '61 minutes' WHERE process = 'dead' AND kind = 'read'")
	f.db.Exec(t, "UPDATE vault.audit_streams SET head_at = head_at - interval '59 minutes' WHERE process = 'dead' AND kind = 'denial'")
	f.db.Exec(t, "UPDATE vault.audit_streams SET head_at = head_at - interval '61 minutes' WHERE process = 'alive'")
	alive.tidyOnce(t.Context())
	eventually(t, "the streams are closed", func() bool { return alive.Stats().StreamsInDoubt == 0 })

	for _, kind := range []string{kindRead, kindDenial} {
		for _, s := range f.streams(kind) {
			want := "open"
			if s.Process == "dead" && kind == kindRead {
				want = "closed"
			}
			if s.State != want {
				t.Errorf("the %s stream of the %s is %s", kind, s.Process, s.State)
			}
		}
	}
	if outcome := f.lastOutcome(f.where("of the dead")[0].Stream); outcome != closedStale {
		t.Errorf("closed as %q", outcome)
	}
	f.db.Exec(t, `UPDATE vault.audit_streams s SET head_at = coalesce(
		(SELECT max(at) FROM vault.audit_log l WHERE l.stream_id = s.stream_id), opened_at)`)
	f.clean()

	// The dead were asleep: they notice and go on.
	must(t, dead.Append(t.Context(), record("awake")))
	if at := f.where("awake"); len(at) != 1 || at[0].Stream == f.where("of the dead")[0].Stream {
		t.Errorf("awake at %v", at)
	}
	f.clean()
}

func TestI10_IdleLanesAreClosedAndOthersStay(t *testing.T) {
	t.Parallel()
	f := setup(t)
	clock := newHandClock()
	trail := f.beating("tidy", func(c *Config) { c.Clock = clock.read })
	must(t, trail.Change(t.Context(), addRole("first")))
	f.pass(trail, clock, idleAfter-time.Second)
	trail.tidyOnce(t.Context())
	must(t, trail.Change(t.Context(), addRole("second"))) // on the same lane
	f.pass(trail, clock, idleAfter-time.Second)
	trail.tidyOnce(t.Context())
	if streams := f.streams(kindChange); len(streams) != 1 || streams[0].State != "open" {
		t.Fatalf("the streams are %+v", streams)
	}
	f.pass(trail, clock, 2*time.Second)
	trail.tidyOnce(t.Context())
	eventually(t, "the lane is closed", func() bool { return f.streams(kindChange)[0].State == "closed" })
	if outcome := f.lastOutcome(f.streams(kindChange)[0].ID); outcome != closedCleanly {
		t.Errorf("closed as %q", outcome)
	}
	if n := trail.Stats().StreamsOpen; n != 2 {
		t.Errorf("%d streams are said to be open", n)
	}
	f.clean()
	f.noAlarm()
}
