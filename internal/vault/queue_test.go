package vault_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// targeted makes a secret with a target that isn't due.
func (f *fixture) targeted(name string, tune ...func(*vault.CreateRequest)) {
	f.t.Helper()
	f.due(name, append([]func(*vault.CreateRequest){single, func(c *vault.CreateRequest) { c.RotateOnCreate = false }}, tune...)...)
}

// asked asks for a rotation that a rotator makes.
func (f *fixture) asked(c vault.Caller, name string) *vault.JobView {
	f.t.Helper()
	made, err := f.vault.Rotate(f.t.Context(), c, vault.RotateRequest{Name: name})
	must(f.t, err)
	if made.Job == nil || made.Secret != nil {
		f.t.Fatalf("asking for a rotation of %s gave %+v", name, made)
	}
	return made.Job
}

// applies takes a job to where the target may have the value.
func applies(t *testing.T, r *vault.Rotations, j *vault.Job) *vault.Delivery {
	t.Helper()
	prepare(t, r, j)
	d, err := r.Begin(t.Context(), j)
	must(t, err)
	if d == nil {
		t.Fatal("the job is over")
	}
	t.Cleanup(d.Release)
	return d
}

// dies has a claimed job fail for good.
func dies(t *testing.T, r *vault.Rotations, j *vault.Job) {
	t.Helper()
	must(t, r.Fail(t.Context(), j, vault.Failure{Class: "permanent", Message: "the target says no", Dead: true}))
}

func (f *fixture) nextRotation(name string) *time.Time {
	f.t.Helper()
	return pgtest.Query[*time.Time](f.t, f.db, "SELECT next_rotation_at FROM vault.secrets WHERE name = $1", name)[0]
}

func TestRotateOfATargetedSecretIsAJob(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.targeted("db/app")
	before := f.nextRotation("db/app")

	job := f.asked(f.as("ask"), "db/app")
	if job.Secret != "db/app" || job.Reason != vault.ReasonManual || job.State != vault.JobOpen || job.Step != vault.StepQueued || job.Running || job.RunAt == nil || job.BaseVersion != 1 {
		t.Errorf("%+v", job)
	}
	if due := f.nextRotation("db/app"); !due.Equal(job.DueAt) || !due.Before(*before) {
		t.Errorf("the secret is due at %s, and its job says %s", due, job.DueAt)
	}
	if got := f.outcomes("ask"); !slices.Equal(got, []string{"rotation.queue ok"}) {
		t.Errorf("the records: %q", got)
	}
	if s := f.read("db/app"); s != "first" {
		t.Error("the value changed before its target did")
	}
	t.Run("and asking again gives the same one", func(t *testing.T) {
		again := f.asked(f.as("again"), "db/app")
		if again.ID != job.ID {
			t.Errorf("%s, then %s", job.ID, again.ID)
		}
		if got := f.outcomes("again"); !slices.Equal(got, []string{"rotation.queue unchanged"}) {
			t.Errorf("the records: %q", got)
		}
	})
	t.Run("which a rotator makes", func(t *testing.T) {
		enqueue(t, r, 0)
		j := claim(t, r)
		d := applies(t, r, j)
		must(t, r.Promote(t.Context(), j, d))
		wantStates(t, f, "db/app", "1 superseded", "2 current")
		over, err := f.vault.Job(t.Context(), f.admin, job.ID)
		must(t, err)
		if over.State != vault.JobCompleted || over.Outcome != "rotated" || over.CompletedAt == nil || over.RunAt != nil {
			t.Errorf("%+v", over)
		}
		if due := f.nextRotation("db/app"); !due.After(time.Now()) {
			t.Errorf("it is due again at %s", due)
		}
	})
	t.Run("and the trail and the tables agree", func(t *testing.T) { f.finds(true) })
}

func TestRotateOfATargetedSecretWaitsForADeadJobToBeSeenTo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.targeted("db/app")
	job := f.asked(f.admin, "db/app")
	dies(t, r, claim(t, r))
	_, err := f.vault.Rotate(t.Context(), f.admin, vault.RotateRequest{Name: "db/app"})
	wantCode(t, err, "job_dead")
	_, err = f.vault.Rollback(t.Context(), f.admin, vault.RollbackRequest{Name: "db/app", Version: 1})
	wantCode(t, err, "already_current")

	dead, err := f.vault.Job(t.Context(), f.admin, job.ID)
	must(t, err)
	if dead.State != vault.JobDead || dead.Class != "permanent" || dead.Error != "the target says no" || dead.DeadAt == nil {
		t.Errorf("%+v", dead)
	}
	t.Run("a retry runs it now, as if for the first time", func(t *testing.T) {
		retried, err := f.vault.RetryJob(t.Context(), f.as("retry"), job.ID)
		must(t, err)
		if retried.State != vault.JobOpen || retried.Attempt != 0 || retried.DeadAt != nil {
			t.Errorf("%+v", retried)
		}
		if got := f.outcomes("retry"); !slices.Equal(got, []string{"rotation.retry ok"}) {
			t.Errorf("the records: %q", got)
		}
		j := claim(t, r)
		if j.Attempt != 1 {
			t.Errorf("attempt %d", j.Attempt)
		}
		_, err = f.vault.RetryJob(t.Context(), f.admin, job.ID)
		wantCode(t, err, "job_running")
		d := applies(t, r, j)
		must(t, r.Promote(t.Context(), j, d))
		_, err = f.vault.RetryJob(t.Context(), f.admin, job.ID)
		wantCode(t, err, "job_over")
		_, err = f.vault.CancelJob(t.Context(), f.admin, job.ID)
		wantCode(t, err, "job_over")
	})
}

func TestRetryEndsAPauseAfterAFailure(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.targeted("db/app")
	job := f.asked(f.admin, "db/app")
	must(t, r.Fail(t.Context(), claim(t, r), vault.Failure{Class: "transient", Message: "no answer", Pause: time.Hour}))
	jobs, err := r.Claim(t.Context(), vault.ClaimRequest{Limit: 1, Lease: 30 * time.Second})
	must(t, err)
	if len(jobs) != 0 {
		t.Fatal("a job that waits was claimed")
	}
	_, err = f.vault.RetryJob(t.Context(), f.admin, job.ID)
	must(t, err)
	claim(t, r)
}

func TestCancelEndsAJobAndMovesItsSecretOn(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	ctx := t.Context()

	t.Run("one that has not begun", func(t *testing.T) {
		f.due("plain")
		enqueue(t, r, 1)
		j := claim(t, r)
		cancelled, err := f.vault.CancelJob(ctx, f.as("cancel"), j.ID)
		must(t, err)
		if cancelled.State != vault.JobCompleted || cancelled.Outcome != "cancelled" || cancelled.Running {
			t.Errorf("%+v", cancelled)
		}
		if got := f.outcomes("cancel"); !slices.Equal(got, []string{"rotation.cancel ok"}) {
			t.Errorf("the records: %q", got)
		}
		enqueue(t, r, 0)
		if err := r.Rotate(ctx, j); !errors.Is(err, vault.ErrClaimLost) {
			t.Errorf("the rotator that had it: %v", err)
		}
		wantStates(t, f, "plain", "1 current")
	})
	t.Run("one that is dead, whose value the target may have", func(t *testing.T) {
		f.targeted("db/dead")
		job := f.asked(f.admin, "db/dead")
		j := claim(t, r)
		applies(t, r, j)
		_, err := f.vault.CancelJob(ctx, f.admin, job.ID)
		wantCode(t, err, "rotation_in_progress")
		dies(t, r, j)
		_, err = f.vault.CancelJob(ctx, f.admin, job.ID)
		must(t, err)
		wantStates(t, f, "db/dead", "1 current", "2 abandoned")
		enqueue(t, r, 0)
		versions, err := f.vault.Versions(ctx, f.admin, "db/dead")
		must(t, err)
		if v := versions[0]; v.State != "abandoned" || v.Valid {
			t.Errorf("%+v", v)
		}
		next := f.asked(f.admin, "db/dead")
		if next.ID == job.ID {
			t.Error("a job that was cancelled is the one that is asked for")
		}
	})
	t.Run("and the trail and the tables agree", func(t *testing.T) { f.finds(true) })
}

func TestJobsAreSeenByWhoMayActOnTheirSecretsAndChangedByWhoMayRotateThem(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.targeted("db/one")
	f.targeted("db/two")
	one, two := f.asked(f.admin, "db/one"), f.asked(f.admin, "db/two")
	reader := f.token("reader", access.Permission{Action: access.Read, Path: "db/one"})
	rotator := f.token("rotator", access.Permission{Action: access.Rotate, Path: "db/t*"})

	page, err := f.vault.Jobs(ctx, reader, vault.JobsRequest{})
	must(t, err)
	if len(page.Items) != 1 || page.Items[0].ID != one.ID {
		t.Errorf("the reader of one sees %+v", page.Items)
	}
	_, err = f.vault.Job(ctx, reader, one.ID)
	must(t, err)
	_, hidden := f.vault.Job(ctx, reader, two.ID)
	_, absent := f.vault.Job(ctx, reader, uuid.New())
	wantKind(t, hidden, fault.NotFound)
	if hidden.Error() != absent.Error() {
		t.Errorf("%q differs from %q", hidden, absent)
	}
	for name, change := range map[string]func(vault.Caller, uuid.UUID) error{
		"retry":  func(c vault.Caller, id uuid.UUID) error { _, err := f.vault.RetryJob(ctx, c, id); return err },
		"cancel": func(c vault.Caller, id uuid.UUID) error { _, err := f.vault.CancelJob(ctx, c, id); return err },
	} {
		t.Log(name)
		wantKind(t, change(reader, one.ID), fault.Denied)
		wantKind(t, change(reader, two.ID), fault.NotFound)
		wantKind(t, change(rotator, one.ID), fault.NotFound)
	}
	_, err = f.vault.RetryJob(ctx, rotator, two.ID)
	must(t, err)
	_, err = f.vault.CancelJob(ctx, rotator, two.ID)
	must(t, err)
	_, err = f.vault.Jobs(ctx, reader, vault.JobsRequest{Secret: "db/two"})
	wantKind(t, err, fault.Denied)
	_, err = f.vault.Jobs(ctx, f.admin, vault.JobsRequest{Secret: "db/none"})
	wantKind(t, err, fault.NotFound)
}

func TestJobsComeInPagesNewestFirst(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	ctx := t.Context()
	for _, name := range []string{"a/1", "a/2", "b/1"} {
		f.targeted(name)
		f.asked(f.admin, name)
	}
	names := func(q vault.JobsRequest) (all []string) {
		t.Helper()
		for {
			page, err := f.vault.Jobs(ctx, f.admin, q)
			must(t, err)
			for _, j := range page.Items {
				all = append(all, j.Secret)
			}
			if page.NextCursor == "" {
				return all
			}
			q.Cursor = page.NextCursor
		}
	}
	for _, c := range []struct {
		what string
		q    vault.JobsRequest
		want []string
	}{
		{"all", vault.JobsRequest{}, []string{"b/1", "a/2", "a/1"}},
		{"one at a time", vault.JobsRequest{Limit: 1}, []string{"b/1", "a/2", "a/1"}},
		{"of a prefix", vault.JobsRequest{Prefix: "a/", Limit: 1}, []string{"a/2", "a/1"}},
		{"of one secret", vault.JobsRequest{Secret: "a/1"}, []string{"a/1"}},
		{"dead", vault.JobsRequest{State: "dead"}, nil},
		{"open", vault.JobsRequest{State: "open"}, []string{"b/1", "a/2", "a/1"}},
	} {
		if got := names(c.q); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
	jobs, err := r.Claim(ctx, vault.ClaimRequest{Limit: 1, Lease: 30 * time.Second})
	must(t, err)
	dies(t, r, &jobs[0])
	if got := names(vault.JobsRequest{State: "dead"}); !slices.Equal(got, []string{jobs[0].Secret}) {
		t.Errorf("dead: %q", got)
	}
	for _, q := range []vault.JobsRequest{{State: "gone"}, {Limit: -1}, {Limit: 1001}, {Cursor: "nonsense"}, {Cursor: "AAAA"}, {Prefix: "/"}, {Secret: "a//b"}} {
		_, err := f.vault.Jobs(ctx, f.admin, q)
		wantKind(t, err, fault.Invalid)
	}
}

// A job is no authority: whatever somebody writes into the table rotates nothing that isn't due, and shows nothing of other secrets.
func TestI6_AJobThatSomebodyMadeUpOrEditedRotatesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	ctx := t.Context()
	f.automatic("quiet", 60)
	f.targeted("db/quiet")
	f.db.Exec(t, `INSERT INTO vault.rotation_jobs (id, secret_id, reason, due_at, base_version, run_at)
		SELECT gen_random_uuid(), id, CASE name WHEN 'quiet' THEN 'scheduled' ELSE 'manual' END, now(), current_version, now() FROM vault.secrets WHERE name LIKE '%quiet'`)
	jobs, err := r.Claim(ctx, vault.ClaimRequest{Limit: 10, Lease: 30 * time.Second})
	must(t, err)
	for i := range jobs {
		if jobs[i].Targeted {
			prepare(t, r, &jobs[i])
		} else {
			must(t, r.Rotate(ctx, &jobs[i]))
		}
		if got := f.job(jobs[i].ID); got.Outcome == nil || *got.Outcome != "superseded" {
			t.Errorf("%s: %+v", jobs[i].Secret, got)
		}
	}
	if len(jobs) != 2 {
		t.Errorf("%d jobs", len(jobs))
	}
	wantStates(t, f, "quiet", "1 current")
	wantStates(t, f, "db/quiet", "1 current")

	t.Run("one that is asked for, edited, rotates nothing either", func(t *testing.T) {
		for edit, reason := range map[string]string{
			"due_at = due_at - interval '1 s'": "another due time", "base_version = base_version + 1": "another base",
		} {
			job := f.asked(f.admin, "db/quiet")
			f.db.Exec(t, "UPDATE vault.rotation_jobs SET "+edit+" WHERE id = $1", job.ID)
			prepare(t, r, claim(t, r))
			wantStates(t, f, "db/quiet", "1 current")
			if got := f.job(job.ID); got.Outcome == nil || *got.Outcome != "superseded" {
				t.Errorf("%s: %+v", reason, got)
			}
			enqueue(t, r, 1) // it is due by its own row, and is rotated for that reason alone
			j := claim(t, r)
			_, err := f.vault.CancelJob(ctx, f.admin, j.ID)
			must(t, err)
		}
	})
	t.Run("one that is moved to another secret tells nothing of that to who may not act on it", func(t *testing.T) {
		job := f.asked(f.admin, "db/quiet")
		c := f.token("of-db", access.Permission{Action: access.Rotate, Path: "db/*"})
		f.db.Exec(t, "UPDATE vault.rotation_jobs SET secret_id = (SELECT id FROM vault.secrets WHERE name = 'quiet') WHERE id = $1", job.ID)
		_, err := f.vault.Job(ctx, c, job.ID)
		wantKind(t, err, fault.NotFound)
		f.db.Exec(t, "DELETE FROM vault.rotation_jobs WHERE id = $1", job.ID)
	})
	t.Run("and what stands in the columns for people is cut", func(t *testing.T) {
		job := f.asked(f.admin, "db/quiet")
		f.db.Exec(t, "UPDATE vault.rotation_jobs SET error = repeat('x', 100000), class = repeat('€', 100000) WHERE id = $1", job.ID)
		view, err := f.vault.Job(ctx, f.admin, job.ID)
		must(t, err)
		if len(view.Error) > 1024 || len(view.Class) > 1024 || !utf8.ValidString(view.Class) {
			t.Errorf("%d and %d bytes", len(view.Error), len(view.Class))
		}
	})
}

// However many ask at once, there is one job.
func TestI7_AskedForByManyAtOnceItIsOneJob(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.targeted("db/app")
	var wait sync.WaitGroup
	ids := make([]uuid.UUID, 12)
	for i := range ids {
		wait.Go(func() {
			made, err := f.vault.Rotate(t.Context(), f.admin, vault.RotateRequest{Name: "db/app"})
			if err != nil {
				t.Errorf("%d: %v", i, err)
				return
			}
			ids[i] = made.Job.ID
		})
	}
	wait.Wait()
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	if n := len(slices.Compact(ids)); n != 1 {
		t.Errorf("%d jobs", n)
	}
}

// A secret that gets a target while it is being rotated at once is rotated by a job.
func TestI7_ATargetThatComesMeanwhileIsNotPassedBy(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.targeted("db/app", func(c *vault.CreateRequest) { c.Target = nil })
	var request vault.CreateRequest
	single(&request)
	var once sync.Once
	f.keeper.set(func() {
		once.Do(func() {
			_, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: "db/app", Target: vault.Optional[secret.Target]{Set: true, Value: *request.Target}})
			must(t, err)
		})
	}, nil)
	made, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "db/app"})
	f.keeper.set(nil, nil)
	must(t, err)
	if made.Job == nil {
		made.Release()
		t.Error("it was rotated at once")
	}
	wantStates(t, f, "db/app", "1 current")
}
