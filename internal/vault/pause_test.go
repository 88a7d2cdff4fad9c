package vault_test

import (
	"slices"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func TestAPausedSecretIsDueAtNoTime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	ctx := t.Context()
	f.due("late")
	due := f.nextRotation("late")

	m, err := f.vault.Pause(ctx, f.as("pause"), "late")
	must(t, err)
	if !m.Rotation.Paused || m.NextRotationAt != nil || m.Version != 1 {
		t.Errorf("%+v", m)
	}
	enqueue(t, r, 0)
	if got := f.outcomes("pause"); !slices.Equal(got, []string{"rotation.pause ok"}) {
		t.Errorf("the records: %q", got)
	}
	t.Run("once", func(t *testing.T) {
		m, err := f.vault.Pause(ctx, f.as("again"), "late")
		must(t, err)
		if !m.Rotation.Paused {
			t.Errorf("%+v", m)
		}
		if got := f.outcomes("again"); !slices.Equal(got, []string{"rotation.pause unchanged"}) {
			t.Errorf("the records: %q", got)
		}
	})
	t.Run("also after a change of something else", func(t *testing.T) {
		_, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: "late", Description: vault.Optional[string]{Set: true, Value: "d"}})
		must(t, err)
		if f.nextRotation("late") != nil {
			t.Error("it is due")
		}
	})
	t.Run("until it is resumed, and then as it was", func(t *testing.T) {
		m, err := f.vault.Resume(ctx, f.as("resume"), "late")
		must(t, err)
		if m.Rotation.Paused || m.NextRotationAt == nil || !m.NextRotationAt.Equal(*due) {
			t.Errorf("%+v", m)
		}
		enqueue(t, r, 1)
		m, err = f.vault.Resume(ctx, f.as("resumed"), "late")
		must(t, err)
		if got := f.outcomes("resumed"); m.Rotation.Paused || !slices.Equal(got, []string{"rotation.resume unchanged"}) {
			t.Errorf("the records: %q", got)
		}
	})
	t.Run("and the trail and the tables agree", func(t *testing.T) { f.finds(true) })
}

func TestAPausedSecretRotatesWhenItIsAskedTo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	ctx := t.Context()
	f.due("late")
	f.targeted("db/app")
	for _, name := range []string{"late", "db/app"} {
		_, err := f.vault.Pause(ctx, f.admin, name)
		must(t, err)
	}
	made, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "late"})
	must(t, err)
	made.Release()
	if f.nextRotation("late") != nil {
		t.Error("it is due although it is paused")
	}
	m, err := f.vault.Resume(ctx, f.admin, "late")
	must(t, err)
	if !m.NextRotationAt.After(time.Now().Add(30 * time.Minute)) {
		t.Errorf("it is due again at %s, as if it had not rotated", m.NextRotationAt)
	}

	f.automatic("early", 0)
	early := f.nextRotation("early")
	_, err = f.vault.Pause(ctx, f.admin, "early")
	must(t, err)
	made, err = f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "early"})
	must(t, err)
	made.Release()
	m, err = f.vault.Resume(ctx, f.admin, "early")
	must(t, err)
	if !m.NextRotationAt.After(*early) {
		t.Errorf("it is due again at %s, as if it had not rotated", m.NextRotationAt)
	}

	f.asked(f.admin, "db/app")
	m, err = f.vault.Resume(ctx, f.admin, "db/app")
	must(t, err)
	j := claim(t, r)
	d := applies(t, r, j)
	must(t, r.Promote(ctx, j, d))
	wantStates(t, f, "db/app", "1 superseded", "2 current")
	if m.NextRotationAt == nil || !f.nextRotation("db/app").After(time.Now().Add(30*time.Minute)) {
		t.Error("it isn't due as its schedule says")
	}
}

func TestPausingDoesNotStopWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	ctx := t.Context()
	f.due("db/app", single)
	enqueue(t, r, 1)
	j := claim(t, r)
	d := applies(t, r, j)
	_, err := f.vault.Pause(ctx, f.admin, "db/app")
	must(t, err)
	must(t, r.Promote(ctx, j, d))
	wantStates(t, f, "db/app", "1 superseded", "2 current")
	if f.nextRotation("db/app") != nil {
		t.Error("it is due although it is paused")
	}
	t.Run("and it isn't made again when the secret is resumed", func(t *testing.T) {
		m, err := f.vault.Resume(ctx, f.admin, "db/app")
		must(t, err)
		if !m.NextRotationAt.After(time.Now()) {
			t.Errorf("it is due at %s", m.NextRotationAt)
		}
	})
	t.Run("and what has not begun ends", func(t *testing.T) {
		f.due("plain")
		enqueue(t, r, 1)
		j := claim(t, r)
		_, err := f.vault.Pause(ctx, f.admin, "plain")
		must(t, err)
		must(t, r.Rotate(ctx, j))
		if got := f.job(j.ID); got.Outcome == nil || *got.Outcome != "superseded" {
			t.Errorf("%+v", got)
		}
		wantStates(t, f, "plain", "1 current")
	})
}

func TestResumeWaitsForTheNextWindowWhereTheScheduleSaysSo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	for missed, catchesUp := range map[string]bool{"wait": false, "catch_up": true} {
		name := "windowed/" + missed
		// Once a year, and never within the window now: a minute of an hour that is half a day away.
		at := time.Now().UTC().Add(12 * time.Hour)
		s, err := f.vault.Create(ctx, f.admin, vault.CreateRequest{
			Name: name, Kind: "automatic", RotateOnCreate: true,
			Schedule: &vault.ScheduleRequest{Cron: at.Format("4 15 2 1 *"), WindowSecs: 60, Missed: missed},
		})
		must(t, err)
		s.Release()
		due := f.nextRotation(name)
		_, err = f.vault.Pause(ctx, f.admin, name)
		must(t, err)
		m, err := f.vault.Resume(ctx, f.admin, name)
		must(t, err)
		if got := m.NextRotationAt.Equal(*due); got != catchesUp {
			t.Errorf("%s: due at %s, then at %s", missed, due, m.NextRotationAt)
		}
	}
}

func TestOnlyWhatRotatesOnAScheduleIsPaused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("manual", "x")
	_, err := f.vault.Pause(t.Context(), f.admin, "manual")
	wantCode(t, err, "not_automatic")
	_, err = f.vault.Resume(t.Context(), f.admin, "manual")
	wantCode(t, err, "not_automatic")
	_, err = f.vault.Pause(t.Context(), f.admin, "none")
	wantKind(t, err, fault.NotFound)
}
