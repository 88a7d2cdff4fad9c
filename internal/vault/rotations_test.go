package vault_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// rotations is what a rotator works with on the fixture's database, as its login.
func (f *fixture) rotations() *vault.Rotations {
	f.t.Helper()
	ctx := context.Background()
	database := f.open("sealkeep_rotator")
	trail, err := audit.Open(database, f.keyring, f.vaultID, audit.Config{Process: "rotator-" + uuid.NewString(), Log: f.cfg.Log})
	must(f.t, err)
	must(f.t, trail.Start(ctx))
	cfg := f.cfg
	cfg.Metrics = prometheus.NewRegistry()
	r, err := vault.NewRotations(database, trail, f.keeper, f.keyring, cfg)
	must(f.t, err)
	must(f.t, r.Start(ctx))
	f.t.Cleanup(func() {
		stop, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		must(f.t, r.Stop(stop))
		must(f.t, trail.Stop(stop))
	})
	eventually(f.t, "the rotator is ready", func() bool { return r.Ready(ctx) == nil })
	return r
}

// due makes an automatic secret that is due, and gives the version that it has.
func (f *fixture) due(name string, tune ...func(*vault.CreateRequest)) {
	f.t.Helper()
	hour := int64(3600)
	request := vault.CreateRequest{Name: name, Kind: "automatic", RotationIntervalSecs: &hour, GracePeriodSecs: 60, RotateOnCreate: true}
	for _, change := range tune {
		change(&request)
	}
	s, err := f.vault.Create(context.Background(), f.admin, request)
	must(f.t, err)
	s.Release()
}

// claim takes the one job that there is.
func claim(t *testing.T, r *vault.Rotations) *vault.Job {
	t.Helper()
	jobs, err := r.Claim(t.Context(), vault.ClaimRequest{Limit: 10, Lease: 30 * time.Second})
	must(t, err)
	if len(jobs) != 1 {
		t.Fatalf("%d jobs in place of one: %v", len(jobs), jobs)
	}
	return &jobs[0]
}

func enqueue(t *testing.T, r *vault.Rotations, want int) {
	t.Helper()
	n, err := r.Enqueue(t.Context(), 100)
	must(t, err)
	if n != want {
		t.Fatalf("%d jobs were made, not %d", n, want)
	}
}

// lapse ends a lease, as time would.
func (f *fixture) lapse(j *vault.Job) {
	f.t.Helper()
	f.db.Exec(f.t, "UPDATE vault.rotation_jobs SET run_at = now() - interval '1 s', lease_expires_at = now() - interval '1 s' WHERE id = '"+j.ID.String()+"'")
}

type jobRow struct {
	Outcome *string
	Step    string
	Attempt int
	Dead    bool
}

func (f *fixture) job(id uuid.UUID) jobRow {
	f.t.Helper()
	return pgtest.Query[jobRow](f.t, f.db, "SELECT outcome, step, attempt, dead_at IS NOT NULL FROM vault.rotation_jobs WHERE id = $1", id)[0]
}

func (f *fixture) states(name string) []string {
	f.t.Helper()
	return pgtest.Query[string](f.t, f.db, `SELECT v.version || ' ' || v.state FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id
		WHERE s.name = $1 ORDER BY v.version`, name)
}

func TestI7_ADueSecretIsRotatedOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.due("app/key")
	enqueue(t, r, 1)
	enqueue(t, r, 0)
	j := claim(t, r)
	if again, err := r.Claim(t.Context(), vault.ClaimRequest{Limit: 10, Lease: 30 * time.Second}); err != nil || len(again) != 0 {
		t.Fatalf("a job under a lease was claimed: %v, %v", again, err)
	}
	must(t, r.Rotate(t.Context(), j))
	if got := f.job(j.ID); got.Outcome == nil || *got.Outcome != "rotated" {
		t.Errorf("the job: %+v", got)
	}
	wantStates(t, f, "app/key", "1 superseded", "2 current")
	if err := r.Rotate(t.Context(), j); !errors.Is(err, vault.ErrClaimLost) {
		t.Errorf("a job that is over rotated again: %v", err)
	}
	wantStates(t, f, "app/key", "1 superseded", "2 current")
	enqueue(t, r, 0)
	if got := f.outcomes("job:" + j.ID.String()); len(got) != 1 || got[0] != "secret.rotate ok" {
		t.Errorf("the records: %v", got)
	}
	s, err := f.vault.Read(t.Context(), f.admin, vault.ReadRequest{Name: "app/key"})
	must(t, err)
	defer s.Release()
	if s.Version != 2 {
		t.Errorf("version %d is read", s.Version)
	}
}

func wantStates(t *testing.T, f *fixture, name string, want ...string) {
	t.Helper()
	got := f.states(name)
	if len(got) != len(want) {
		t.Fatalf("the versions of %s are %q, not %q", name, got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("the versions of %s are %q, not %q", name, got, want)
		}
	}
}

func TestI7_WhoLostTheClaimChangesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	first, second := f.rotations(), f.rotations()
	f.due("app/key")
	enqueue(t, first, 1)
	late := claim(t, first)
	f.lapse(late)
	j := claim(t, second)
	if j.ID != late.ID || j.Claim == late.Claim || j.Attempt != 2 {
		t.Fatalf("reclaimed %+v after %+v", j, late)
	}
	for what, do := range map[string]func() error{
		"rotated":   func() error { return first.Rotate(t.Context(), late) },
		"failed":    func() error { return first.Fail(t.Context(), late, vault.Failure{Class: "transient"}) },
		"postponed": func() error { return first.Later(t.Context(), late, time.Hour) },
	} {
		if err := do(); !errors.Is(err, vault.ErrClaimLost) {
			t.Errorf("who lost the claim %s the job: %v", what, err)
		}
	}
	if held, err := first.Renew(t.Context(), []vault.Job{*late}, time.Minute); err != nil || len(held) != 0 {
		t.Errorf("who lost the claim renewed it: %v, %v", held, err)
	}
	wantStates(t, f, "app/key", "1 current")
	must(t, second.Rotate(t.Context(), j))
	wantStates(t, f, "app/key", "1 superseded", "2 current")
}

func TestI6_AJobIsNoAuthority(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.due("app/key", func(c *vault.CreateRequest) { c.RotateOnCreate = false })
	enqueue(t, r, 0)
	t.Run("one that somebody made up rotates nothing", func(t *testing.T) {
		f.db.Exec(t, `INSERT INTO vault.rotation_jobs (id, secret_id, reason, due_at, base_version, run_at)
			SELECT gen_random_uuid(), id, 'manual', now(), 1, now() FROM vault.secrets WHERE name = 'app/key'`)
		j := claim(t, r)
		must(t, r.Rotate(t.Context(), j))
		if got := f.job(j.ID); got.Outcome == nil || *got.Outcome != "superseded" {
			t.Errorf("the job: %+v", got)
		}
		wantStates(t, f, "app/key", "1 current")
	})
	t.Run("nor does one with the secret's own due time before that has come", func(t *testing.T) {
		f.db.Exec(t, `INSERT INTO vault.rotation_jobs (id, secret_id, reason, due_at, base_version, run_at)
			SELECT gen_random_uuid(), id, 'scheduled', next_rotation_at, 1, now() FROM vault.secrets WHERE name = 'app/key'`)
		j := claim(t, r)
		must(t, r.Rotate(t.Context(), j))
		wantStates(t, f, "app/key", "1 current")
	})
	t.Run("a due time that somebody wrote is an alarm, and rotates nothing", func(t *testing.T) {
		f.db.Exec(t, "UPDATE vault.secrets SET next_rotation_at = now() WHERE name = 'app/key'")
		enqueue(t, r, 1)
		if err := r.Rotate(t.Context(), claim(t, r)); err == nil {
			t.Error("it rotated")
		}
		wantStates(t, f, "app/key", "1 current")
	})
}

func TestI7_AChangeSinceEndsTheJob(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.due("app/key")
	enqueue(t, r, 1)
	j := claim(t, r)
	s, err := f.vault.Rotate(t.Context(), f.admin, vault.RotateRequest{Name: "app/key"})
	must(t, err)
	s.Release()
	must(t, r.Rotate(t.Context(), j))
	if got := f.job(j.ID); got.Outcome == nil || *got.Outcome != "superseded" {
		t.Errorf("the job: %+v", got)
	}
	wantStates(t, f, "app/key", "1 superseded", "2 current")
	t.Run("and so does the secret's end", func(t *testing.T) {
		f.due("app/gone")
		enqueue(t, r, 1)
		j := claim(t, r)
		must(t, f.vault.Delete(t.Context(), f.admin, "app/gone", vault.Precondition{}))
		if err := r.Rotate(t.Context(), j); !errors.Is(err, vault.ErrClaimLost) {
			t.Error(err)
		}
	})
}

func TestRotation_TheCapCountsWhatAllBegin(t *testing.T) {
	t.Parallel()
	f := setup(t)
	one, two := f.rotations(), f.rotations()
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		f.due("app/" + name)
	}
	enqueue(t, one, 5)
	capped := vault.ClaimRequest{Limit: 10, Lease: 30 * time.Second, MaxPerMinute: 3}
	first, err := one.Claim(t.Context(), vault.ClaimRequest{Limit: 2, Lease: 30 * time.Second, MaxPerMinute: 3})
	must(t, err)
	second, err := two.Claim(t.Context(), capped)
	must(t, err)
	if len(first) != 2 || len(second) != 1 {
		t.Fatalf("%d and then %d jobs were begun, of 3", len(first), len(second))
	}
	f.lapse(&first[0])
	again, err := two.Claim(t.Context(), capped)
	must(t, err)
	if len(again) != 1 || again[0].ID != first[0].ID {
		t.Errorf("what was begun before isn't taken up again: %v", again)
	}
}

func TestRotation_ADamagedSecretIsAnAlarmAndNobodyElses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.due("app/bad")
	f.due("app/good")
	f.db.Exec(t, "UPDATE vault.secrets SET description = 'x' WHERE name = 'app/bad'")
	enqueue(t, r, 2)
	jobs, err := r.Claim(t.Context(), vault.ClaimRequest{Limit: 10, Lease: 30 * time.Second})
	must(t, err)
	for i := range jobs {
		err := r.Rotate(t.Context(), &jobs[i])
		if bad := jobs[i].Secret == "app/bad"; bad != (err != nil) {
			t.Errorf("%s: %v", jobs[i].Secret, err)
		}
		if err != nil {
			must(t, r.Fail(t.Context(), &jobs[i], vault.Failure{Class: "internal", Message: "m", Dead: true}))
			if got := f.job(jobs[i].ID); !got.Dead {
				t.Errorf("the job: %+v", got)
			}
		}
	}
	enqueue(t, r, 0)
	wantStates(t, f, "app/bad", "1 current")
	wantStates(t, f, "app/good", "1 superseded", "2 current")
}

// dueAgain makes a secret due now by an interval that is over at once.
func (f *fixture) dueAgain(name string) error {
	_, err := f.vault.Update(f.t.Context(), f.admin, vault.UpdateRequest{Name: name, RotationIntervalSecs: vault.Optional[int64]{Set: true, Value: 1}})
	eventually(f.t, "it is due", func() bool {
		return pgtest.Query[bool](f.t, f.db, "SELECT next_rotation_at < now() FROM vault.secrets WHERE name = $1", name)[0]
	})
	return err
}

func ptr[T any](v T) *T { return &v }

// prepare takes a job to where it has a pending version, or to its end.
func prepare(t *testing.T, r *vault.Rotations, j *vault.Job) {
	t.Helper()
	_, err := r.Prepare(t.Context(), j)
	must(t, err)
}
