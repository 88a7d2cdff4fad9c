package audit

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

func TestI3_MutationAndRecordComeTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.db.Exec(t, "ALTER TABLE vault.audit_log ADD CONSTRAINT poison CHECK (actor <> 'poison')")
	trail := f.started("together")
	refusal := errors.New("the rules say no")
	add := func(name string, records []Record, err error) func(context.Context, *postgres.Tx) ([]Record, error) {
		return func(ctx context.Context, tx *postgres.Tx) ([]Record, error) {
			if err := tx.InsertRole(ctx, db.InsertRoleParams{ID: uuid.New(), Name: name}); err != nil {
				return nil, err
			}
			return records, err
		}
	}
	poison := record("poisoned")
	poison.Actor = "poison"
	for _, c := range []struct {
		name   string
		change func(context.Context, *postgres.Tx) ([]Record, error)
		judge  func(error)
		stays  bool
	}{
		{"works", addRole("works"), func(err error) { must(t, err) }, true},
		{"refused", add("refused", recordsOf([]string{"refused"}), refusal), func(err error) {
			if err != refusal { //nolint:errorlint // as it is
				t.Errorf("the error of the mutation comes back as %v", err)
			}
		}, false},
		{"poisoned", add("poisoned", []Record{poison}, nil), func(err error) { wantKind(t, err, fault.Internal) }, false},
		{"silent", add("silent", nil, nil), func(err error) { wantKind(t, err, fault.Internal) }, false},
		{"swallowed", func(ctx context.Context, tx *postgres.Tx) ([]Record, error) {
			records, _ := add("swallowed", recordsOf([]string{"swallowed"}), nil)(ctx, tx)
			_ = tx.InsertRole(ctx, db.InsertRoleParams{ID: uuid.New(), Name: "swallowed"}) // fails, and nobody looks
			return records, nil
		}, func(err error) { wantKind(t, err, fault.Unavailable) }, false},
		{"works again", addRole("works again"), func(err error) { must(t, err) }, true},
	} {
		c.judge(trail.Change(t.Context(), c.change))
		if mutated, recorded := f.happened(c.name); mutated != c.stays || recorded != c.stays {
			t.Errorf("%s: mutated: %t, recorded: %t", c.name, mutated, recorded)
		}
	}
	if streams := f.streams(kindChange); len(streams) != 1 || streams[0].HeadSeq != 2 {
		t.Errorf("one after the other, none of them in doubt, they took these streams: %+v", streams)
	}
	f.clean()
}

func TestChange_PanicFreesItsLaneAndItsConnection(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("panics", func(c *Config) { c.ChangeLanes = 1 })
	for range 40 { // more than there are lanes or connections
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_ = trail.Change(t.Context(), func(ctx context.Context, tx *postgres.Tx) ([]Record, error) {
				_, _ = addRole("panicked")(ctx, tx)
				panic("a bug")
			})
		}()
	}
	must(t, trail.Change(t.Context(), addRole("afterwards")))
	if mutated, recorded := f.happened("panicked"); mutated || recorded {
		t.Errorf("mutated: %t, recorded: %t", mutated, recorded)
	}
	f.clean()
}

func TestI3_LanesAreReusedAndBounded(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("bounded", func(c *Config) { c.ChangeLanes = 2 })
	hold := make(chan struct{})
	var inside, group sync.WaitGroup
	inside.Add(2)
	for _, name := range []string{"first", "second"} {
		group.Go(func() {
			err := trail.Change(t.Context(), func(ctx context.Context, tx *postgres.Tx) ([]Record, error) {
				inside.Done()
				<-hold
				return addRole(name)(ctx, tx)
			})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	inside.Wait()
	ended, cancel := context.WithCancel(t.Context())
	third := make(chan error, 1)
	go func() { third <- trail.Change(ended, addRole("third")) }()
	cancel()
	wantKind(t, <-third, fault.Unavailable)
	close(hold)
	group.Wait()
	for _, name := range names("later", 20) {
		must(t, trail.Change(t.Context(), addRole(name)))
	}
	if streams := f.streams(kindChange); len(streams) != 2 {
		t.Errorf("%d streams for two changes at a time", len(streams))
	}
	if mutated, recorded := f.happened("third"); mutated || recorded {
		t.Errorf("what was refused: mutated: %t, recorded: %t", mutated, recorded)
	}
	f.clean()
}

func TestI3_ChangeWaitsForALaneNoLongerThanForItsEvidence(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("full", func(c *Config) { c.ChangeLanes, c.Timeout = 1, time.Millisecond })
	trail.changes.slots <- struct{}{} // as if a change were committing
	wantKind(t, trail.Change(t.Context(), addRole("waits")), fault.Unavailable)
	<-trail.changes.slots
	if mutated, recorded := f.happened("waits"); mutated || recorded {
		t.Errorf("mutated: %t, recorded: %t", mutated, recorded)
	}
}

func TestI3_ConcurrentChangesDontMixTheirChains(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("many", func(c *Config) { c.ChangeLanes = 4 })
	var group sync.WaitGroup
	for _, name := range names("change", 60) {
		group.Go(func() {
			if err := trail.Change(t.Context(), addRole(name)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	group.Wait()
	streams := f.streams(kindChange)
	if len(streams) > 4 {
		t.Errorf("%d streams", len(streams))
	}
	total := int64(0)
	for _, s := range streams {
		gapless(t, pgtest.Query[int64](t, f.db, "SELECT seq FROM vault.audit_log WHERE stream_id = $1", s.ID), 1)
		total += s.HeadSeq
	}
	if total != 60 {
		t.Errorf("%d records of 60 changes", total)
	}
	f.clean()
}

// reap closes a stream as another process does it that takes its owner for dead.
func (f *fixture) reap(id uuid.UUID) {
	f.t.Helper()
	must(f.t, f.trail("reaper").closeStream(context.Background(), &closing{id: id, outcome: closedStale}))
}

func TestI10_StreamsClosedByAnotherProcessCostOneRetry(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("reaped", func(c *Config) { c.ChangeLanes = 3 })

	// Three lanes are open and free; all of them are closed, as when a machine slept.
	var inside, group sync.WaitGroup
	inside.Add(3)
	for _, name := range names("open", 3) {
		group.Go(func() {
			err := trail.Change(t.Context(), func(ctx context.Context, tx *postgres.Tx) ([]Record, error) {
				inside.Done()
				inside.Wait()
				return addRole(name)(ctx, tx)
			})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	group.Wait()
	must(t, trail.Append(t.Context(), record("read before")))
	trail.Deny(t.Context(), record("denied before"))
	closed := map[uuid.UUID]bool{}
	for _, kind := range []string{kindChange, kindRead, kindDenial} {
		for _, s := range f.streams(kind) {
			closed[s.ID] = true
			f.reap(s.ID)
		}
	}
	if len(closed) != 5 {
		t.Fatalf("%d streams were open", len(closed))
	}

	runs := 0
	must(t, trail.Change(t.Context(), func(ctx context.Context, tx *postgres.Tx) ([]Record, error) {
		runs++
		return addRole("changed after")(ctx, tx)
	}))
	if runs > 2 { // once, if a heartbeat was the first to notice
		t.Errorf("the mutation ran %d times", runs)
	}
	must(t, trail.Append(t.Context(), record("read after")))
	trail.Deny(t.Context(), record("denied after"))
	for _, request := range []string{"changed after", "read after", "denied after"} {
		at := f.where(request)
		if len(at) != 1 || closed[at[0].Stream] {
			t.Fatalf("%s is at %v", request, at)
		}
		predecessor := one[uuid.UUID](f, "SELECT predecessor FROM vault.audit_streams WHERE stream_id = $1", at[0].Stream)
		if !closed[predecessor] {
			t.Errorf("%s is on a stream that took over from %s", request, predecessor)
		}
	}
	f.clean()
}

func TestI10_RetryIsNotRepeated(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("unlucky")
	runs := 0
	err := trail.Change(t.Context(), func(ctx context.Context, tx *postgres.Tx) ([]Record, error) {
		runs++
		open := f.streams(kindChange)
		f.reap(open[len(open)-1].ID) // always just now
		return addRole("unlucky")(ctx, tx)
	})
	wantKind(t, err, fault.Unavailable)
	wantIs(t, err, postgres.ErrStreamMoved)
	if mutated, recorded := f.happened("unlucky"); runs != 2 || mutated || recorded {
		t.Errorf("after %d runs: mutated: %t, recorded: %t", runs, mutated, recorded)
	}
	must(t, trail.Change(t.Context(), addRole("lucky")))
	f.clean()
}

func TestI4_ChangeIsRefusedBeforeStartAndAfterStop(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.trail("phases")
	wantKind(t, trail.Change(t.Context(), addRole("before")), fault.Unavailable)
	must(t, trail.Start(t.Context()))
	must(t, trail.Change(t.Context(), addRole("between")))
	stop(t, trail)
	wantKind(t, trail.Change(t.Context(), addRole("after")), fault.Unavailable)
	if streams := f.streams(kindChange); len(streams) != 1 || streams[0].State != "closed" {
		t.Errorf("the streams are %+v", streams)
	}
	f.clean()
}

func TestI3_CancelledRequestChangesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("cancelled")
	must(t, trail.Change(t.Context(), addRole("opens a lane")))
	ctx, cancel := context.WithCancel(t.Context())
	err := trail.Change(ctx, func(ctx context.Context, tx *postgres.Tx) ([]Record, error) {
		records, err := addRole("cancelled")(ctx, tx)
		cancel() // before the append
		return records, err
	})
	wantKind(t, err, fault.Unavailable)
	if mutated, recorded := f.happened("cancelled"); mutated || recorded {
		t.Errorf("mutated: %t, recorded: %t", mutated, recorded)
	}
	must(t, trail.Change(t.Context(), addRole("next")))
	if streams := f.streams(kindChange); len(streams) != 1 {
		t.Errorf("nothing was in doubt, but the lane was given up: %+v", streams)
	}
	f.clean()
}
