package audit

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// loaded is an appender of a Trail that isn't started, and accepts entries all the same: what waits when it begins to run is a
// matter of the test alone.
func (f *fixture) loaded() (a *appender, run func()) {
	f.t.Helper()
	a = f.trail("loaded").reads
	a.ready.Store(true)
	return a, func() { f.runAppender(a) }
}

// runAppender runs the loop of an appender whose Trail isn't started, until the test ends.
func (f *fixture) runAppender(a *appender) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() { a.run(ctx) })
	f.t.Cleanup(func() {
		cancel()
		loop.Wait()
		if err := a.trail.resolver.finish(context.Background()); err != nil {
			f.t.Error(err)
		}
	})
}

// submit appends in the background, once for each request, and waits until all are queued.
func submit(t *testing.T, a *appender, ctx context.Context, records ...Record) map[string]<-chan error { //nolint:revive // a test's ctx is an argument like others
	t.Helper()
	before := a.queued()
	answers := map[string]<-chan error{}
	for _, r := range records {
		answer := make(chan error, 1)
		answers[r.RequestID] = answer
		go func() { answer <- a.append(ctx, patience, []Record{r}) }()
	}
	eventually(t, "all appends are queued", func() bool { return a.queued() == before+len(records) })
	return answers
}

func recordsOf(requests []string) []Record {
	records := make([]Record, len(requests))
	for i, request := range requests {
		records[i] = record(request)
	}
	return records
}

func TestI2_AppendReturnsNilOnlyWhenEverybodySeesTheRecord(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("visible")
	for _, request := range names("visible", 50) {
		must(t, trail.Append(t.Context(), record(request)))
		if n := len(f.where(request)); n != 1 {
			t.Fatalf("%s was answered, and is there %d times", request, n)
		}
	}
	f.clean()
}

func TestI2_WhatWaitsTogetherIsCommittedTogether(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a, run := f.loaded()
	requests := names("together", 300)
	answers := submit(t, a, t.Context(), recordsOf(requests)...)
	run()
	for request, answer := range answers {
		if err := <-answer; err != nil {
			t.Errorf("%s: %v", request, err)
		}
	}
	if commits := one[int64](f, "SELECT count(DISTINCT xmin::text) FROM vault.audit_log"); commits != 1 {
		t.Errorf("%d appends took %d commits", len(requests), commits)
	}
	f.clean()
}

func TestI10_ConcurrentAppendsShareRoundsAndFormOneChain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("concurrent")
	const workers, each = 50, 10
	var group sync.WaitGroup
	for _, name := range names("worker", workers) {
		group.Go(func() {
			for i, request := range names(name, each) {
				records := []Record{record(request)}
				if i%3 == 0 { // a batch read appends one for each name
					records = append(records, record(request))
				}
				if err := trail.Append(t.Context(), records...); err != nil {
					t.Errorf("%s: %v", request, err)
				}
			}
		})
	}
	group.Wait()

	read := f.streams(kindRead)
	if len(read) != 1 {
		t.Fatalf("%d read streams", len(read))
	}
	gapless(t, pgtest.Query[int64](t, f.db, "SELECT seq FROM vault.audit_log WHERE stream_id = $1", read[0].ID), 1)
	const want = workers * (each + 4)
	if got := one[int64](f, "SELECT count(*) FROM vault.audit_log WHERE request_id LIKE 'worker-%'"); got != want {
		t.Errorf("%d records for %d", got, want)
	}
	commits := one[int64](f, "SELECT count(DISTINCT xmin::text) FROM vault.audit_log WHERE request_id LIKE 'worker-%'")
	if commits >= workers*each {
		t.Errorf("%d commits for %d appends: none was shared", commits, workers*each)
	}
	// What one append brought lies together.
	torn := one[int64](f, `SELECT count(*) FROM (SELECT FROM vault.audit_log WHERE request_id LIKE 'worker-%'
		GROUP BY request_id HAVING max(seq) - min(seq) <> count(*) - 1 OR count(DISTINCT xmin::text) <> 1) torn`)
	if torn != 0 {
		t.Errorf("the records of %d appends don't lie together", torn)
	}
	f.clean()
}

func TestI2_CancelledWaiterCostsNobodyElse(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a, run := f.loaded()
	ctx, cancel := context.WithCancel(t.Context())
	leaving := submit(t, a, ctx, recordsOf(names("leaving", 20))...)
	staying := submit(t, a, t.Context(), recordsOf(names("staying", 20))...)
	cancel()
	for request, answer := range leaving {
		err := <-answer
		wantKind(t, err, fault.Unavailable)
		wantIs(t, err, context.Canceled)
		if len(f.where(request)) != 0 {
			t.Errorf("%s is recorded", request)
		}
	}
	run()
	for request, answer := range staying {
		if err := <-answer; err != nil {
			t.Errorf("%s: %v", request, err)
		}
	}
	if n := one[int64](f, "SELECT count(*) FROM vault.audit_log WHERE request_id LIKE 'leaving-%'"); n != 0 {
		t.Errorf("%d records of requests that had left", n)
	}
	f.clean()
}

func TestI2_AppendGivesUpInTimeAndDisclosesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a, run := f.loaded()
	err := a.append(t.Context(), time.Millisecond, []Record{record("late")})
	wantKind(t, err, fault.Unavailable)
	wantIs(t, err, errTooLate)
	run()
	must(t, a.append(t.Context(), patience, []Record{record("in time")}))
	if len(f.where("late")) != 0 {
		t.Error("a record of a request that had left is there")
	}
	f.clean()
}

func TestAppend_Refuses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	t.Cleanup(func() { f.clean() })
	many := make([]Record, maxRoundRecords+1)
	for i := range many {
		many[i] = record("many")
	}

	t.Run("before Start", func(t *testing.T) {
		t.Parallel()
		trail := f.trail("unstarted")
		err := trail.Append(t.Context(), record("unstarted"))
		wantKind(t, err, fault.Unavailable)
		wantIs(t, err, errNotReady)
	})
	t.Run("after Stop", func(t *testing.T) {
		t.Parallel()
		trail := f.started("stopped")
		stop(t, trail)
		err := trail.Append(t.Context(), record("stopped"))
		wantKind(t, err, fault.Unavailable)
		wantIs(t, err, errNotReady)
	})
	t.Run("what slipped in while it stopped", func(t *testing.T) {
		t.Parallel()
		trail := f.started("slipped")
		stop(t, trail)
		trail.reads.ready.Store(true) // as a request saw it that then took its time
		wantIs(t, trail.Append(t.Context(), record("slipped")), errNotReady)
	})
	t.Run("no records and too many", func(t *testing.T) {
		t.Parallel()
		trail := f.started("bounds")
		wantKind(t, trail.Append(t.Context()), fault.Internal)
		wantKind(t, trail.Append(t.Context(), many...), fault.Internal)
		must(t, trail.Append(t.Context(), many[1:]...))
	})
	t.Run("beyond the queue's bound", func(t *testing.T) {
		t.Parallel()
		a, run := f.loaded()
		waiting := make([]*entry, maxQueued)
		for i := range waiting {
			waiting[i] = &entry{records: many[:1], done: make(chan error, 1)}
			must(t, a.enqueue(waiting[i]))
		}
		err := a.append(t.Context(), patience, []Record{record("one too many")})
		wantKind(t, err, fault.Unavailable)
		wantIs(t, err, errQueueFull)
		run()
		for _, e := range waiting {
			must(t, <-e.done)
		}
	})
	t.Run("everything that waits when it stops, however much it is", func(t *testing.T) {
		t.Parallel()
		a, _ := f.loaded()
		waiting := make([]*entry, maxQueued)
		for i := range waiting {
			waiting[i] = &entry{records: many[:1], done: make(chan error, 1)}
			must(t, a.enqueue(waiting[i]))
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		a.run(ended)
		for _, e := range waiting {
			if err := <-e.done; !errors.Is(err, errNotReady) {
				t.Fatalf("answered with %v", err)
			}
		}
	})
}

func TestI2_OneRoundTakesABoundedNumberOfRecords(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a, _ := f.loaded()
	for _, size := range []int{maxRoundRecords - 1, 1, 1, maxRoundRecords, 2} {
		must(t, a.enqueue(&entry{records: make([]Record, size), done: make(chan error, 1)}))
	}
	for _, want := range []int{2, 1, 1, 1, 0} {
		if got := len(a.take()); got != want {
			t.Errorf("a round takes %d appends, not %d", got, want)
		}
	}
}
