package audit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// ours are the sessions of the API's user on this database.
const ours = "datname = current_database() AND usename = 'sealkeep_api'"

func (f *fixture) terminate(pid int32) {
	f.t.Helper()
	f.db.Exec(f.t, "SELECT pg_terminate_backend($1)", pid)
}

func TestI4_LossWhileIdleIsNoticedAndCostsNoStream(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("idle")
	must(t, trail.Append(t.Context(), record("before")))
	last := one[int32](f, "SELECT max(pid) FROM pg_stat_activity WHERE "+ours)
	for range 3 {
		old := pgtest.Query[int32](t, f.db, "SELECT pid FROM pg_stat_activity WHERE "+ours)
		f.db.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "+ours)
		// Nobody asks for anything: the appenders' own signs of life find out.
		eventually(t, "both appenders have connected anew", func() bool {
			return one[int64](f, "SELECT count(*) FROM pg_stat_activity WHERE "+ours+
				" AND NOT pid = ANY($1) AND (query LIKE '%pg_control_system%' OR query LIKE '%ping%')", old) >= 2
		})
		f.awaitReady(trail)
	}
	must(t, trail.Append(t.Context(), record("after")))
	if n := one[int64](f, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", last); n != 0 {
		t.Error("the first session is still there: nothing was lost")
	}
	if read := f.streams(kindRead); len(read) != 1 {
		t.Errorf("losing an idle connection leaves no doubt, but there are now %d read streams", len(read))
	}
	before, after := f.where("before"), f.where("after")
	if len(before) != 1 || len(after) != 1 || before[0].Stream != after[0].Stream {
		t.Errorf("the records before and after are at %v and %v", before, after)
	}
	f.clean()
}

func TestI10_LossDuringAnAppendIsResolvedOnceItsLockIsFree(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("blocked")
	must(t, trail.Append(t.Context(), record("acknowledged")))
	old := f.streams(kindRead)[0].ID
	release := f.lockStream(old)
	defer release()

	answer := make(chan error, 1)
	go func() { answer <- trail.Append(t.Context(), record("in doubt")) }()
	f.terminate(f.waitingAppend())
	err := <-answer
	wantKind(t, err, fault.Unavailable)
	wantIs(t, err, postgres.ErrOutcomeUnknown)

	// A new lane serves while the old one's row is locked by whatever is in doubt.
	f.awaitReady(trail)
	must(t, trail.Append(t.Context(), record("meanwhile")))
	if n := trail.Stats().StreamsInDoubt; n != 1 {
		t.Errorf("%d streams in doubt", n)
	}
	read := f.streams(kindRead)
	if len(read) != 2 || read[0].ID != old || read[0].State != "open" {
		t.Fatalf("the streams are %+v", read)
	}
	if read[1].Predecessor == nil || *read[1].Predecessor != old || *read[1].PredSeq < f.where("acknowledged")[0].Seq { // a heartbeat may have followed
		t.Errorf("the new stream took over from %v at %v, not from %s", read[1].Predecessor, read[1].PredSeq, old)
	}

	release()
	eventually(t, "the old stream is closed", func() bool { return f.streams(kindRead)[0].State == "closed" })
	if outcome := f.lastOutcome(old); outcome != closedInDoubt {
		t.Errorf("closed as %q", outcome)
	}
	f.clean()
}

// lastOutcome tells what a stream's last record says.
func (f *fixture) lastOutcome(stream uuid.UUID) string {
	f.t.Helper()
	return one[string](f, "SELECT outcome FROM vault.audit_log WHERE stream_id = $1 ORDER BY seq DESC LIMIT 1", stream)
}

// Nobody knows whether the append that was cut arrived: whatever happened, what was answered is there and what is there verifies.
func TestI10_ConnectionsCutAtRandomLoseNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("cut")
	load := f.load(trail, 8)
	for range 25 {
		seen := load.acknowledged()
		f.db.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "+ours)
		eventually(t, "service resumes", func() bool { return load.acknowledged() > seen+8 })
	}
	load.stop()
	eventually(t, "everything is resolved", func() bool { return trail.Stats().StreamsInDoubt == 0 })
	load.check()
}

func TestI4_ServerThatIsGoneMeansQuickRefusalsAndServiceResumes(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t, nil)
	f := setupOn(t, server.Database)
	trail := f.started("outage")
	load := f.load(trail, 16)
	for name, end := range map[string]func() error{
		"stopped": func() error { return server.Postgres.Stop(context.Background()) },
		"crashed": server.Postgres.Kill,
	} {
		seen := load.acknowledged()
		eventually(t, "there is load", func() bool { return load.acknowledged() > seen+100 })
		must(t, end())
		eventually(t, "the trail knows", func() bool { return !trail.Ready() })
		// With a timeout of a minute only refusing at once can bring so many.
		refused := load.refusals()
		eventually(t, "requests are refused", func() bool { return load.refusals() > refused+500 })
		if trail.Ready() {
			t.Errorf("%s, and ready", name)
		}
		wantKind(t, trail.Append(t.Context(), record("gone")), fault.Unavailable)
		wantKind(t, trail.Change(t.Context(), addRole("gone")), fault.Unavailable)

		must(t, server.Postgres.Restart(context.Background()))
		seen = load.acknowledged()
		eventually(t, "service resumes", func() bool { return load.acknowledged() > seen+100 })
	}
	load.stop()
	eventually(t, "everything is resolved", func() bool { return trail.Stats().StreamsInDoubt == 0 })
	load.check()
}

// load appends from many goroutines until it is stopped, and remembers what was answered.
type load struct {
	f     *fixture
	quit  context.CancelFunc
	group sync.WaitGroup

	mu      sync.Mutex
	acked   []string
	refused int
	last    error
}

func (f *fixture) load(trail *Trail, workers int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{f: f, quit: cancel}
	f.t.Cleanup(func() { cancel(); l.group.Wait() })
	for w := range workers {
		l.group.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				request := fmt.Sprintf("load-%s-%d-%d", trail.cfg.Process, w, i)
				var err error
				if i%4 == 3 {
					err = trail.Change(context.Background(), addRole(request))
				} else {
					err = trail.Append(context.Background(), record(request))
				}
				l.mu.Lock()
				if err == nil {
					l.acked = append(l.acked, request)
				} else {
					l.refused, l.last = l.refused+1, err
				}
				l.mu.Unlock()
				if err != nil {
					if kind := fault.KindOf(err); kind != fault.Unavailable {
						f.t.Errorf("%s is refused as %s: %v", request, kind, err)
					}
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	return l
}

func (l *load) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

func (l *load) refusals() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

func (l *load) stop() { l.quit(); l.group.Wait() }

// check holds what was answered against what is there: records, mutations, and the chains.
func (l *load) check() {
	l.f.t.Helper()
	counts := map[string]int{}
	records := pgtest.Query[string](l.f.t, l.f.db, "SELECT request_id FROM vault.audit_log WHERE request_id LIKE 'load-%'")
	for _, request := range records {
		counts[request]++
	}
	for _, request := range l.acked {
		if counts[request] != 1 {
			l.f.t.Errorf("%s was answered, and is recorded %d times", request, counts[request])
		}
	}
	for _, role := range pgtest.Query[string](l.f.t, l.f.db, "SELECT name FROM vault.roles") {
		if counts[role] != 1 {
			l.f.t.Errorf("%s took effect, and is recorded %d times", role, counts[role])
		}
	}
	l.f.t.Logf("%d answered, %d refused, %d recorded", len(l.acked), l.refused, len(counts))
	l.f.clean()
	l.f.noAlarm()
}

// noAlarm fails the test if a process took one of its streams for tampered with.
func (f *fixture) noAlarm() {
	f.t.Helper()
	if strings.Contains(f.log.String(), "not as this process left it") {
		f.t.Error("there was a false alarm")
	}
}
