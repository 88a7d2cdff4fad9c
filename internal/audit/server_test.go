package audit

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// promote makes the server go on on another timeline, as the standby does that takes over.
func promote(t *testing.T, server *pgtest.Server) {
	t.Helper()
	must(t, server.Postgres.Stop(context.Background()))
	signal := filepath.Join(server.Postgres.DataDir(), "standby.signal")
	must(t, os.WriteFile(signal, nil, 0o600))
	info, err := os.Stat(server.Postgres.DataDir())
	must(t, err)
	owner := info.Sys().(*syscall.Stat_t)
	must(t, os.Chown(signal, int(owner.Uid), int(owner.Gid)))
	must(t, server.Postgres.Restart(context.Background()))
	server.Exec(t, "SELECT pg_promote()")
}

func TestI10_LanesDontOutliveTheirServersTimeline(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t, nil)
	f := setupOn(t, server.Database)
	trail := f.started("survivor")
	must(t, trail.Append(t.Context(), record("read before")))
	must(t, trail.Change(t.Context(), addRole("change before")))
	trail.Deny(t.Context(), record("denial before"))

	promote(t, server)
	eventually(t, "reads resume", func() bool { return trail.Append(t.Context(), record("read after")) == nil })
	eventually(t, "denials resume", func() bool {
		trail.Deny(t.Context(), record("denial after"))
		return len(f.where("denial after")) > 0
	})
	eventually(t, "changes resume", func() bool { return trail.Change(t.Context(), addRole("change after")) == nil })

	type bound struct {
		ID          string
		Timeline    int64
		Predecessor *string
	}
	at := func(request string) bound {
		t.Helper()
		return one[bound](f, `SELECT stream_id::text, timeline, predecessor::text FROM vault.audit_streams
			WHERE stream_id IN (SELECT stream_id FROM vault.audit_log WHERE request_id = $1)`, request)
	}
	for _, kind := range []string{"read", "change", "denial"} {
		before, after := at(kind+" before"), at(kind+" after")
		if before.Timeline != 1 || after.Timeline != 2 || before.ID == after.ID {
			t.Errorf("%ss go from %+v to %+v", kind, before, after)
		}
		if after.Predecessor == nil || *after.Predecessor != before.ID {
			t.Errorf("the stream of %ss doesn't name the one before the failover", kind)
		}
	}
	eventually(t, "everything is resolved", func() bool { return trail.Stats().StreamsInDoubt == 0 })
	f.clean()
	f.noAlarm()
}

// The database's clock can't be set back in a test, so the streams' last records are moved ahead.
func TestI10_ClockThatWasSetBackCostsNewStreamsAndNotTheService(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.trail("timely")
	trail.changes.start()
	must(t, trail.Change(t.Context(), addRole("before")))
	must(t, trail.reads.prepare(t.Context()))
	t.Cleanup(func() {
		trail.reads.shutdown(context.Background())
		must(t, trail.changes.drain(context.Background()))
		must(t, trail.resolver.finish(context.Background()))
	})
	old := trail.reads.lane.id

	// A little is bridged by repeating the last record's time.
	ahead := one[time.Time](f, "SELECT clock_timestamp() + interval '30 seconds'")
	trail.reads.lane.head.at = ahead
	must(t, trail.reads.prepare(t.Context()))
	if trail.reads.lane.id != old {
		t.Error("half a minute cost a stream")
	}
	// More than the database would accept is not.
	ahead = one[time.Time](f, "SELECT clock_timestamp() + interval '10 minutes'")
	trail.reads.lane.head.at = ahead
	trail.changes.free[0].head.at = ahead
	must(t, trail.reads.prepare(t.Context()))
	if trail.reads.lane.id == old {
		t.Error("the lane goes on, and no record of it will ever be accepted")
	}
	must(t, trail.Change(t.Context(), addRole("after")))
	if changes := f.streams(kindChange); len(changes) != 2 || changes[1].Predecessor == nil || *changes[1].Predecessor != changes[0].ID {
		t.Errorf("the streams of changes are %+v", changes)
	}
	f.clean()
}

func TestI4_LocalClockThatJumpsCostsOneRound(t *testing.T) {
	t.Parallel()
	f := setup(t)
	clock := newHandClock()
	trail := f.beating("jumpy", func(c *Config) { c.Clock = clock.read })
	for _, jump := range []time.Duration{time.Hour, -2 * time.Hour, 4 * time.Minute, -4 * time.Minute} {
		clock.move(jump)
		eventually(t, "service resumes", func() bool { return trail.Append(t.Context(), record("jump")) == nil })
		eventually(t, "changes resume", func() bool { return trail.Change(t.Context(), addRole(jump.String())) == nil })
	}
	f.clean()
}
