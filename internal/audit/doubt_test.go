package audit

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// awaitStandby makes every commit wait for a standby that doesn't exist; letGo ends the waits and the waiting.
func (f *fixture) awaitStandby() (letGo func()) {
	f.t.Helper()
	set := func(names string) {
		f.t.Helper()
		// This very session must not wait for its own statements.
		f.db.Exec(f.t, "SET synchronous_commit = local")
		f.db.Exec(f.t, "ALTER SYSTEM SET synchronous_standby_names = "+names)
		f.db.Exec(f.t, "SELECT pg_reload_conf()")
	}
	set("'missing'")
	// In force it is once the checkpointer has seen it, which nothing tells: commit until one waits.
	super := f.db.Super(f.t)
	pid := super.PgConn().PID()
	for waited := false; !waited; {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = super.Exec(context.Background(), "SELECT pg_logical_emit_message(true, 'probe', '')")
		}()
		eventually(f.t, "a commit waits for the standby, or doesn't", func() bool {
			waited = one[bool](f, "SELECT wait_event IS NOT DISTINCT FROM 'SyncRep' FROM pg_stat_activity WHERE pid = $1", int64(pid))
			select {
			case <-done:
				return true
			default:
				return waited
			}
		})
		f.db.Exec(f.t, "SELECT pg_cancel_backend($1)", int64(pid))
		<-done
	}
	return func() { set("''") }
}

// waitingCommits gives the sessions of ours whose commit waits for a standby.
func (f *fixture) waitingCommits(query string) []int32 {
	f.t.Helper()
	return pgtest.Query[int32](f.t, f.db, "SELECT pid FROM pg_stat_activity WHERE "+ours+
		" AND wait_event = 'SyncRep' AND query ILIKE $1", query)
}

func TestI3_CommitWhoseWaitIsCutIsInDoubt(t *testing.T) {
	t.Parallel()
	f := setupOn(t, pgtest.NewServer(t, nil).Database)
	trail := f.started("doubtful", func(c *Config) { c.ChangeLanes = 1 })
	must(t, trail.Change(t.Context(), addRole("before")))
	old := f.streams(kindChange)[0].ID

	letGo := f.awaitStandby()
	answer := make(chan error, 1)
	go func() { answer <- trail.Change(context.Background(), addRole("doubtful")) }()
	eventually(t, "the commit waits for its standby", func() bool { return len(f.waitingCommits("commit%")) == 1 })
	f.db.Exec(t, "SELECT pg_cancel_backend($1)", f.waitingCommits("commit%")[0])
	err := <-answer
	wantKind(t, err, fault.Unavailable)
	wantIs(t, err, postgres.ErrOutcomeUnknown)

	// The server has committed it, whatever it said: it is seen, and its evidence with it.
	if mutated, recorded := f.happened("doubtful"); !mutated || !recorded {
		t.Errorf("mutated: %t, recorded: %t", mutated, recorded)
	}
	letGo()
	must(t, trail.Change(t.Context(), addRole("after")))
	eventually(t, "the old stream is closed", func() bool { return f.streams(kindChange)[0].State == "closed" })
	streams := f.streams(kindChange)
	if len(streams) != 2 || streams[0].ID != old || streams[0].HeadSeq != 3 {
		t.Fatalf("the streams are %+v", streams)
	}
	if p := streams[1].Predecessor; p == nil || *p != old || *streams[1].PredSeq != 1 {
		t.Errorf("the new stream took over from %v at %v, not from %s at the last acknowledged record, 1", p, streams[1].PredSeq, old)
	}
	if at := f.where("after")[0]; at.Stream != streams[1].ID {
		t.Error("a lane in doubt was written again")
	}
	if outcome := f.lastOutcome(old); outcome != closedInDoubt {
		t.Errorf("closed as %q", outcome)
	}
	f.clean()
	f.noAlarm()
}

func TestI2_RoundWhoseWaitIsCutAnswersNobody(t *testing.T) {
	t.Parallel()
	f := setupOn(t, pgtest.NewServer(t, nil).Database)
	trail := f.started("doubtful")
	must(t, trail.Append(t.Context(), record("before")))
	letGo := f.awaitStandby()
	answer := make(chan error, 1)
	go func() { answer <- trail.Append(context.Background(), record("doubtful")) }()
	const round = "%WITH head AS%"
	// The record's own round, or a heartbeat's before it: cut both.
	var err error
	eventually(t, "the append is answered", func() bool {
		for _, pid := range f.waitingCommits(round) {
			f.db.Exec(t, "SELECT pg_cancel_backend($1)", pid)
		}
		select {
		case err = <-answer:
			return true
		default:
			return false
		}
	})
	wantKind(t, err, fault.Unavailable)
	letGo()
	f.awaitReady(trail)
	must(t, trail.Append(t.Context(), record("after")))
	if f.where("before")[0].Stream == f.where("after")[0].Stream {
		t.Error("a lane in doubt was written again")
	}
	eventually(t, "everything is resolved", func() bool { return trail.Stats().StreamsInDoubt == 0 })
	f.clean()
	f.noAlarm()
}

func TestI3_SlowCommitIsRefusedInTimeAndItsLaneWaitsForIt(t *testing.T) {
	t.Parallel()
	f := setupOn(t, pgtest.NewServer(t, nil).Database)
	trail := f.started("slow", func(c *Config) { c.ChangeLanes, c.Timeout = 1, time.Second })
	sometime := func(prefix string) {
		t.Helper()
		attempts := 0
		eventually(t, prefix, func() bool {
			attempts++
			return trail.Change(t.Context(), addRole(fmt.Sprint(prefix, attempts))) == nil
		})
	}
	sometime("before")
	letGo := f.awaitStandby()
	err := trail.Change(t.Context(), addRole("slow"))
	wantKind(t, err, fault.Unavailable)
	wantIs(t, err, postgres.ErrOutcomeUnknown)
	if n := len(trail.changes.slots); n != 1 {
		t.Errorf("%d lanes are in use while the commit waits", n)
	}
	letGo()
	sometime("after")
	if streams := f.streams(kindChange); len(streams) != 1 || streams[0].State != "open" {
		t.Errorf("the commit's outcome became known, but the streams are %+v", streams)
	}
	if mutated, recorded := f.happened("slow"); !mutated || !recorded {
		t.Errorf("mutated: %t, recorded: %t", mutated, recorded)
	}
	f.clean()
}

func TestI4_WhoComesWhileARoundIsStuckIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	f := setupOn(t, pgtest.NewServer(t, nil).Database)
	// The round gives up long after the test does: only knowing that it is stuck can refuse anyone at once.
	f.silence = time.Hour
	trail := f.started("stuck", func(c *Config) { c.Timeout = 100 * time.Millisecond })
	letGo := f.awaitStandby()
	eventually(t, "an append is refused at once", func() bool {
		err := trail.Append(t.Context(), record("stuck"))
		wantKind(t, err, fault.Unavailable)
		return errors.Is(err, errNotReady)
	})
	if trail.Ready() {
		t.Error("the trail is said to be ready")
	}
	letGo()
	eventually(t, "service resumes", func() bool { return trail.Append(t.Context(), record("resumed")) == nil })
	f.clean()
	f.noAlarm()
}

// An opening in doubt leaves a stream that nobody knows to exist.
func TestI10_OpeningInDoubtIsClosedToo(t *testing.T) {
	t.Parallel()
	f := setupOn(t, pgtest.NewServer(t, nil).Database)
	trail := f.started("opening")
	letGo := f.awaitStandby()
	answer := make(chan error, 1)
	go func() { answer <- trail.Change(context.Background(), addRole("opening")) }()
	eventually(t, "the opening's commit waits", func() bool { return len(f.waitingCommits("commit%")) == 1 })
	f.terminate(f.waitingCommits("commit%")[0])
	wantKind(t, <-answer, fault.Unavailable)
	letGo()
	eventually(t, "the stream is closed", func() bool {
		streams := f.streams(kindChange)
		return len(streams) == 1 && streams[0].State == "closed"
	})
	must(t, trail.Change(t.Context(), addRole("after")))
	if mutated, recorded := f.happened("opening"); mutated || recorded {
		t.Errorf("without a lane: mutated: %t, recorded: %t", mutated, recorded)
	}
	f.clean()
	f.noAlarm()
}
