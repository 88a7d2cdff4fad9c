package audit

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/pgtest"
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
	trail.clock.observe(one[time.Time](f, "SELECT clock_timestamp()"))
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
	trail.reads.ready.Store(false)
	must(t, trail.Change(t.Context(), addRole("another")))
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
	open := pgtest.Query[row](t, f.db, `SELECT stream_id::text, head_seq, encode(head_mac, 'hex')
		FROM vault.audit_streams WHERE state = 'open'`)
	if len(open) != 5 {
		t.Fatalf("%d streams are open", len(open))
	}
	first.beat(t.Context(), &pulse{})
	seen := f.beats("first")[0].heads(t)
	if len(seen) != len(open) {
		t.Errorf("the heartbeat carries %d heads of %d", len(seen), len(open))
	}
	for _, s := range open {
		if got := seen[s.ID]; got.Seq != s.Seq || got.MAC != s.MAC {
			t.Errorf("stream %s is at %d %s, the heartbeat says %d %s", s.ID, s.Seq, s.MAC, got.Seq, got.MAC)
		}
	}
	f.clean()
}

func TestI10_HeartbeatOfVeryManyStreamsStaysWithinItsBound(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.beating("crowded")
	f.db.Exec(t, `INSERT INTO vault.audit_streams (stream_id, process, kind, opened_at, head_seq, head_mac, head_at, system_id, timeline, key_id)
		SELECT gen_random_uuid(), 'crowd', 'read', now(), 9223372036854775807, decode(repeat('ff', 32), 'hex'), now(), '', 1, key_id
		FROM vault.keyring, generate_series(1, 1000) WHERE purpose = 'audit'`)
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
	f.pass(trail, clock, restEvery-time.Second)
	trail.tidyOnce(t.Context())
	must(t, trail.Change(t.Context(), addRole("second"))) // on the same lane
	f.pass(trail, clock, restEvery-time.Second)
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
