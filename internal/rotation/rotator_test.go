package rotation_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/rotation"
	"github.com/sealkeep/sealkeep/internal/target"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func TestRotator_StartsAndStopsAnyNumberOfTimes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	v := f.rotations()
	unstarted, err := rotation.New(v, scripted{}, rotation.Config{})
	must(t, err)
	must(t, unstarted.Stop(t.Context()))
	must(t, unstarted.Stop(t.Context()))
	if unstarted.Start(t.Context()) == nil {
		t.Error("one that was stopped starts")
	}
	r := f.start(scripted{}, rotation.Config{})
	must(t, r.Start(t.Context()))
	must(t, r.Stop(t.Context()))
	must(t, r.Stop(t.Context()))
	for name, cfg := range map[string]rotation.Config{
		"too many workers": {Workers: 257}, "a short lease": {Lease: time.Second}, "half a second": {Lease: 3500 * time.Millisecond}, "a negative cap": {MaxPerMinute: -1},
	} {
		if _, err := rotation.New(v, scripted{}, cfg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestRotator_IsWokenAndSleepsNoLongerThanUntilSomethingIsDue(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.start(scripted{}, rotation.Config{Poll: time.Hour})
	f.eventually("it sleeps until somebody wakes it", func() bool {
		return pgtest.Query[int](t, f.DB, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'")[0] == 1
	})
	f.due("app/key", false) // nobody notifies: it is found when it looks again
	f.DB.Exec(t, "SELECT pg_notify('vault_rotation', '')")
	f.eventually("what is due is rotated", func() bool { return f.version("app/key") == 2 })
	second := int64(1)
	_, err := f.Process.Vault().Update(t.Context(), f.admin, vault.UpdateRequest{Name: "app/key", RotationIntervalSecs: vault.Optional[int64]{Set: true, Value: second}})
	must(t, err)
	f.DB.Exec(t, "SELECT pg_notify('vault_rotation', '')")
	f.eventually("what falls due every second is rotated again and again", func() bool { return f.version("app/key") >= 4 })
}

func TestRotator_FailuresAreClassed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var class atomic.Value
	class.Store(target.Transient)
	r := f.start(scripted{apply: func(context.Context, *vault.Delivery) error {
		if c, _ := class.Load().(target.Class); c != "" {
			return &target.Error{Class: c, Message: "the target said no"}
		}
		return nil
	}}, rotation.Config{Poll: time.Hour, MaxAttempts: 3})
	f.due("db/app", true)
	f.now(r)
	f.eventually("a failed attempt is told", func() bool { j := f.job("db/app"); return j.Class == "transient" && j.Error == "the target said no" })
	t.Run("after the last attempt the job is dead", func(t *testing.T) {
		f.eventually("it is dead", func() bool { f.now(r); return f.job("db/app").Dead })
		if j := f.job("db/app"); j.Attempt != 3 || f.version("db/app") != 1 {
			t.Errorf("%+v", j)
		}
	})
	t.Run("and stays so", func(t *testing.T) {
		f.now(r)
		f.due("app/other", false)
		f.now(r)
		f.eventually("others go on", func() bool { return f.version("app/other") == 2 })
		if j := f.job("db/app"); !j.Dead || j.Attempt != 3 {
			t.Errorf("%+v", j)
		}
	})
	t.Run("what won't change by itself is dead at once", func(t *testing.T) {
		class.Store(target.Permanent)
		f.due("db/permanent", true)
		f.now(r)
		f.eventually("it is dead", func() bool { return f.job("db/permanent").Dead })
		if j := f.job("db/permanent"); j.Attempt != 1 {
			t.Errorf("%+v", j)
		}
	})
	t.Run("a value that is refused is abandoned and another one made", func(t *testing.T) {
		class.Store(target.Policy)
		f.due("db/policy", true)
		f.now(r)
		f.eventually("it is refused", func() bool { return f.job("db/policy").Class == "policy" })
		class.Store(target.Class(""))
		f.eventually("another one is taken", func() bool { f.now(r); return f.version("db/policy") > 1 })
		got := pgtest.Query[string](t, f.DB, `SELECT v.version || ' ' || v.state FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id
			WHERE s.name = 'db/policy' AND v.state <> 'superseded' ORDER BY v.version`)
		if len(got) != 1 || !strings.HasSuffix(got[0], " current") || got[0] == "2 current" {
			t.Errorf("the versions are %q", got)
		}
	})
}

func TestI7_ARotatorWhoseLeaseLapsesIsCutOff(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var speaking atomic.Int32
	cut := make(chan error, 4)
	f.start(scripted{apply: func(ctx context.Context, d *vault.Delivery) error {
		if speaking.Add(1) > 1 {
			return nil
		}
		<-ctx.Done()
		cut <- context.Cause(ctx)
		return &target.Error{Class: target.Transient, Message: "cut"}
	}}, rotation.Config{Lease: 3 * time.Second, Poll: 100 * time.Millisecond})
	f.due("db/app", true)
	f.eventually("the target is spoken to", func() bool { return speaking.Load() == 1 })
	// Somebody else has it now.
	f.DB.Exec(t, "UPDATE vault.rotation_jobs SET claim_id = gen_random_uuid(), run_at = now() + interval '5 s'")
	if err := <-cut; err == nil {
		t.Error("it was not told why")
	}
	f.eventually("the job is taken up again, and done", func() bool { return f.job("db/app").Outcome == "rotated" })
	if f.version("db/app") != 2 {
		t.Errorf("version %d", f.version("db/app"))
	}
}

func TestBackoff_IsOfFullJitterAndBounded(t *testing.T) {
	t.Parallel()
	for attempt, limit := range map[int]time.Duration{1: 5 * time.Second, 2: 10 * time.Second, 8: 640 * time.Second, 9: 15 * time.Minute, 100: 15 * time.Minute} {
		low, high := rotation.MostPause, time.Duration(0)
		for range 2000 {
			p := rotation.Backoff(attempt, rotation.FirstPause, rotation.MostPause)
			low, high = min(low, p), max(high, p)
		}
		if high > limit+time.Millisecond || high < limit*9/10 || low > limit/10 {
			t.Errorf("after attempt %d: pauses from %s to %s", attempt, low, high)
		}
	}
}
