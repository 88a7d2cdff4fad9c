package limit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestI4_WhoWaitsIsReleasedWhenTheTimeIsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := New(t.Context(), time.Second, time.Now)
		defer c.End()
		if c.Err() != nil {
			t.Errorf("at once: %v", c.Err())
		}
		began := time.Now()
		<-c.Done()
		if took := time.Since(began); took != time.Second || !errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("after %v: %v", took, c.Err())
		}
	})
}

func TestTheDeadlineCountsForThoseWhoOnlyAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := New(t.Context(), time.Second, time.Now)
		defer c.End()
		time.Sleep(time.Second - time.Millisecond)
		if c.Err() != nil {
			t.Errorf("before its time: %v", c.Err())
		}
		time.Sleep(time.Millisecond)
		if !errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("at its time: %v", c.Err())
		}
		select {
		case <-c.Done():
		default:
			t.Error("what is waited for late isn't over")
		}
		late := New(t.Context(), time.Second, time.Now)
		time.Sleep(time.Second)
		before := late.Err()
		late.End()
		if after := late.Err(); !errors.Is(before, context.DeadlineExceeded) || !errors.Is(after, before) {
			t.Errorf("before its end it said %v, after it %v", before, after)
		}
	})
}

func TestItEndsWithItsParent(t *testing.T) {
	t.Parallel()
	for _, waits := range []bool{false, true} {
		parent, cancel := context.WithCancel(t.Context())
		c := New(parent, time.Hour, time.Now)
		if waits {
			_ = c.Done()
		}
		child, release := context.WithCancel(c)
		cancel()
		<-c.Done()
		<-child.Done()
		if !errors.Is(c.Err(), context.Canceled) {
			t.Errorf("waits %t: %v", waits, c.Err())
		}
		release()
		c.End()
	}
}

func TestEndReleasesWhoWaits(t *testing.T) {
	t.Parallel()
	for _, waits := range []bool{false, true} {
		c := New(t.Context(), time.Hour, time.Now)
		if waits {
			_ = c.Done()
		}
		child, release := context.WithCancel(c)
		c.End()
		c.End()
		<-child.Done()
		<-c.Done()
		if !errors.Is(c.Err(), context.Canceled) {
			t.Errorf("waits %t: %v", waits, c.Err())
		}
		release()
	}
}

func TestTheEarlierDeadlineHolds(t *testing.T) {
	t.Parallel()
	parent, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	outer, _ := parent.Deadline()
	for d, want := range map[time.Duration]bool{time.Second: false, time.Hour: true} {
		c := New(parent, d, time.Now)
		if got, ok := c.Deadline(); !ok || got.Equal(outer) != want {
			t.Errorf("%v: %v", d, got)
		}
		c.End()
	}
	type key struct{}
	c := New(context.WithValue(t.Context(), key{}, "value"), time.Second, time.Now)
	defer c.End()
	if c.Value(key{}) != "value" {
		t.Error("the parent's values are gone")
	}
}

func TestWorkThatNeverWaitsCostsOneAllocation(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		c := New(context.Background(), time.Second, time.Now)
		_ = c.Err()
		c.End()
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
