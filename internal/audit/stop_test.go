package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

func TestI10_StopClosesItsStreamsAndNobodyElses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail, other := f.started("stops"), f.started("stays")
	for _, each := range []*Trail{trail, other} {
		must(t, each.Append(t.Context(), record("read")))
		must(t, each.Change(t.Context(), addRole("change of "+each.cfg.Process)))
		each.Deny(t.Context(), record("denial"))
	}
	trail.limit.count(here) // not recorded yet
	stop(t, trail)

	for _, kind := range []string{kindRead, kindChange, kindDenial} {
		for _, s := range f.streams(kind) {
			want := map[string]string{"stops": "closed", "stays": "open"}[s.Process]
			if s.State != want {
				t.Errorf("the %s stream of the process that %s is %s", kind, s.Process, s.State)
			}
			if want == "closed" && f.lastOutcome(s.ID) != closedCleanly {
				t.Errorf("it was closed as %q", f.lastOutcome(s.ID))
			}
		}
	}
	if counted, _ := f.counts(); counted[here.String()] != 1 {
		t.Errorf("the counts are %v", counted)
	}
	if got := trail.Stats(); got.Ready || got.StreamsOpen != 0 || got.StreamsInDoubt != 0 || got.Queued != 0 {
		t.Errorf("after Stop the state is %+v", got)
	}
	f.clean()
	f.noAlarm()
}

func TestStartStop_AreIdempotent(t *testing.T) {
	t.Parallel()
	f := setup(t)
	t.Run("unstarted", func(t *testing.T) {
		trail := f.trail("unstarted")
		stop(t, trail)
		stop(t, trail)
		if trail.Start(t.Context()) == nil {
			t.Error("a stopped trail starts")
		}
	})
	t.Run("twice", func(t *testing.T) {
		trail := f.trail("twice")
		must(t, trail.Start(t.Context()))
		must(t, trail.Start(t.Context()))
		f.awaitReady(trail)
		must(t, trail.Append(t.Context(), record("twice")))
		stop(t, trail)
		stop(t, trail)
		if trail.Start(t.Context()) == nil {
			t.Error("a stopped trail starts")
		}
	})
	t.Run("a context that ends after Start ends nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		trail := f.trail("outlives")
		must(t, trail.Start(ctx))
		cancel()
		f.awaitReady(trail)
		must(t, trail.Append(t.Context(), record("outlives")))
		stop(t, trail)
	})
	if read := f.streams(kindRead); len(read) != 2 {
		t.Errorf("%d read streams", len(read))
	}
	f.clean()
}

func TestStartStop_StressFromEverySide(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for round := range 12 {
		trail := f.trail(fmt.Sprintf("stress-%d", round))
		var group sync.WaitGroup
		each := func(do func(name string)) {
			for i := range 4 {
				group.Go(func() {
					time.Sleep(rand.N(20 * time.Millisecond))
					do(fmt.Sprintf("stress-%d-%d", round, i))
				})
			}
		}
		refused := func(err error) {
			if err != nil && fault.KindOf(err) != fault.Unavailable {
				t.Errorf("refused as %s: %v", fault.KindOf(err), err)
			}
		}
		each(func(string) { _ = trail.Start(context.Background()) })
		each(func(string) { stop(t, trail) })
		each(func(name string) { refused(trail.Append(t.Context(), record(name))) })
		each(func(name string) { refused(trail.Change(t.Context(), addRole(name))) })
		each(func(name string) { trail.Deny(t.Context(), record(name)) })
		each(func(string) { _, _ = trail.Stats(), trail.Ready() })
		group.Wait()
		stop(t, trail)
	}
	eventually(t, "all streams are closed", func() bool {
		return one[int64](f, "SELECT count(*) FROM vault.audit_streams WHERE state = 'open'") == 0
	})
	f.clean()
	f.noAlarm()
}

func TestStop_UnderLoadLosesNothingThatWasAnswered(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("busy")
	load := f.load(trail, 8)
	eventually(t, "there is load", func() bool { return load.acknowledged() > 50 })
	stop(t, trail)
	after := load.acknowledged()
	refused := load.refusals()
	eventually(t, "all is refused", func() bool { return load.refusals() > refused+100 })
	load.stop()
	if n := load.acknowledged(); n > after+8 { // the answers of what was in flight may be counted late
		t.Errorf("%d were answered after Stop", n-after)
	}
	if n := one[int64](f, "SELECT count(*) FROM vault.audit_streams WHERE state = 'open'"); n != 0 {
		t.Errorf("%d streams are open", n)
	}
	load.check()
}

func TestStop_WaitsForChangesInFlight(t *testing.T) {
	t.Parallel()
	for name, patient := range map[string]bool{"and closes their streams": true, "unless its context ends": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			trail := f.started("slow")
			inside, goOn := make(chan struct{}), make(chan struct{})
			changed := make(chan error, 1)
			go func() {
				changed <- trail.Change(context.Background(), func(ctx context.Context, tx *postgres.Tx) ([]Record, error) {
					close(inside)
					<-goOn
					return addRole("slow")(ctx, tx)
				})
			}()
			<-inside
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			stopped := make(chan error, 1)
			go func() { stopped <- trail.Stop(ctx) }()
			if !patient {
				cancel()
				if err := <-stopped; err == nil {
					t.Error("Stop says that all is done")
				}
			}
			close(goOn)
			must(t, <-changed)
			if patient {
				must(t, <-stopped)
			}
			if n := trail.Stats().StreamsOpen; n != 0 {
				t.Errorf("%d streams are said to be open", n)
			}
			if state := f.streams(kindChange)[0].State; patient && state != "closed" {
				t.Errorf("the stream is %s", state)
			}
			f.clean()
		})
	}
}

// A commit that doesn't come back must not hold the process: Stop says so and leaves.
func TestStop_DoesNotWaitForCommitsLongerThanItsContext(t *testing.T) {
	t.Parallel()
	f := setupOn(t, pgtest.NewServer(t, nil).Database)
	trail, err := Open(f.open("sealkeep_api"), f.keys, f.vaultID, Config{
		Process: "held", Timeout: 100 * time.Millisecond, Metrics: prometheus.NewRegistry(),
	})
	must(t, err)
	must(t, trail.Start(t.Context()))
	f.awaitReady(trail)
	letGo := f.awaitStandby()
	answer := make(chan error, 1)
	go func() { answer <- trail.Append(context.Background(), record("held")) }()
	eventually(t, "a round waits", func() bool { return len(f.waitingCommits("%WITH head AS%")) > 0 })
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := trail.Stop(ended); err == nil {
		t.Error("Stop says that all is done")
	}
	wantKind(t, <-answer, fault.Unavailable)

	// What is in flight ends by itself, and nothing comes after it.
	letGo()
	trail.loops.Wait()
	must(t, trail.changes.drain(context.Background()))
	if n := trail.Stats().StreamsOpen; n != 0 {
		t.Errorf("%d streams are said to be open", n)
	}
	f.clean()
}
