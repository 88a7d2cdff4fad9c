package vault_test

import (
	"slices"
	"testing"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func (f *fixture) change(name, value string) {
	f.t.Helper()
	_, err := f.vault.Update(f.t.Context(), f.admin, vault.UpdateRequest{Name: name, Given: text(value)})
	must(f.t, err)
}

func TestRollbackGivesAnOlderValueAsANewVersion(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	s, err := f.vault.Create(ctx, f.admin, vault.CreateRequest{Name: "app/key", Kind: "manual", Given: text("first"), GracePeriodSecs: 60})
	must(t, err)
	s.Release()
	f.change("app/key", "second")

	made, err := f.vault.Rollback(ctx, f.as("back"), vault.RollbackRequest{Name: "app/key", Version: 1})
	must(t, err)
	if made.Job != nil || made.Version != 3 || string(made.Material.Value.Reveal()) != "first" {
		t.Errorf("%+v", made)
	}
	made.Release()
	wantStates(t, f, "app/key", "1 superseded", "2 superseded", "3 current")
	if got := f.read("app/key"); got != "first" {
		t.Errorf("it reads %q", got)
	}
	if got := f.outcomes("back"); !slices.Equal(got, []string{"secret.rollback ok"}) {
		t.Errorf("the records: %q", got)
	}
	verdict, err := f.vault.Verify(ctx, f.admin, "app/key", text("second"))
	must(t, err)
	if !verdict.Valid {
		t.Error("the version that was rolled back has no grace")
	}

	t.Run("without the value to who may not read", func(t *testing.T) {
		c := f.token("rotator", access.Permission{Action: access.Rotate, Path: "app/*"})
		made, err := f.vault.Rollback(ctx, c, vault.RollbackRequest{Name: "app/key", Version: 2})
		must(t, err)
		if made.Version != 4 || made.Material != nil {
			t.Errorf("%+v", made)
		}
	})
	t.Run("and the trail and the tables agree", func(t *testing.T) { f.finds(true) })
	t.Run("to nothing but a version that is valid and isn't the current one", func(t *testing.T) {
		for version, code := range map[int64]string{4: "already_current", 99: ""} {
			_, err := f.vault.Rollback(ctx, f.admin, vault.RollbackRequest{Name: "app/key", Version: version})
			if code != "" {
				wantCode(t, err, code)
			} else {
				wantKind(t, err, fault.NotFound)
			}
		}
		f.made("UPDATE vault.secret_versions SET expires_at = now() WHERE version = 1")
		_, err := f.vault.Rollback(ctx, f.admin, vault.RollbackRequest{Name: "app/key", Version: 1})
		wantKind(t, err, fault.NotFound)
		for _, version := range []int64{0, -1} {
			_, err := f.vault.Rollback(ctx, f.admin, vault.RollbackRequest{Name: "app/key", Version: version})
			wantKind(t, err, fault.Invalid)
		}
	})
	t.Run("of an automatic secret, which is due as after a rotation", func(t *testing.T) {
		first := f.automatic("auto", 60)
		rotated, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "auto"})
		must(t, err)
		rotated.Release()
		before := f.nextRotation("auto")
		made, err := f.vault.Rollback(ctx, f.admin, vault.RollbackRequest{Name: "auto", Version: 1})
		must(t, err)
		made.Release()
		if f.read("auto") != first || !f.nextRotation("auto").After(*before) {
			t.Error("it isn't the first value, or is due as before")
		}
	})
}

func TestI7_RollbackOfATargetedSecretIsARotationOfItsOwn(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	ctx := t.Context()
	f.login("127.0.0.1:5432")
	f.targeted("db/app", alternating, func(c *vault.CreateRequest) { c.RotateOnCreate = false })
	f.asked(f.admin, "db/app")
	j := claim(t, r)
	d := applies(t, r, j)
	must(t, r.Promote(ctx, j, d))
	second := f.read("db/app")
	due := f.nextRotation("db/app")

	made, err := f.vault.Rollback(ctx, f.as("back"), vault.RollbackRequest{Name: "db/app", Version: 1})
	must(t, err)
	if made.Secret != nil || made.Job.Reason != vault.ReasonRollback || made.Job.Step != vault.StepPrepared || made.Job.State != vault.JobOpen {
		t.Fatalf("%+v", made.Job)
	}
	wantStates(t, f, "db/app", "1 superseded", "2 current", "3 pending")
	if got := f.outcomes("back"); !slices.Equal(got, []string{"rotation.queue ok"}) {
		t.Errorf("the records: %q", got)
	}
	if f.read("db/app") != second {
		t.Error("the value changed before its target did")
	}
	if !f.nextRotation("db/app").Equal(*due) {
		t.Error("it is due at another time")
	}
	t.Run("and not a second one beside it", func(t *testing.T) {
		_, err := f.vault.Rollback(ctx, f.admin, vault.RollbackRequest{Name: "db/app", Version: 1})
		wantCode(t, err, "rotation_in_progress")
		if again := f.asked(f.admin, "db/app"); again.ID != made.Job.ID {
			t.Errorf("asking for a rotation made %+v", again)
		}
		wantStates(t, f, "db/app", "1 superseded", "2 current", "3 pending")
	})
	t.Run("which a rotator makes, with that value", func(t *testing.T) {
		j := claim(t, r)
		d := applies(t, r, j)
		if string(d.New.Username.Reveal()) != "app_a" || string(d.New.Value.Reveal()) != "first" || d.Version != 3 {
			t.Errorf("what is handed to the target: version %d", d.Version)
		}
		must(t, r.Promote(ctx, j, d))
		wantStates(t, f, "db/app", "1 superseded", "2 superseded", "3 current")
		if f.read("db/app") != "first" {
			t.Error("it isn't the first value")
		}
	})
	t.Run("and where the target refuses it, nothing else is made", func(t *testing.T) {
		made, err := f.vault.Rollback(ctx, f.admin, vault.RollbackRequest{Name: "db/app", Version: 2})
		must(t, err)
		j := claim(t, r)
		applies(t, r, j)
		must(t, r.Fail(ctx, j, vault.Failure{Class: "policy", Message: "too short", Abandon: true}))
		prepare(t, r, claim(t, r))
		if got := f.job(made.Job.ID); got.Outcome == nil || *got.Outcome != "superseded" {
			t.Errorf("%+v", got)
		}
		wantStates(t, f, "db/app", "1 superseded", "2 superseded", "3 current", "4 abandoned")
	})
	t.Run("and the trail and the tables agree", func(t *testing.T) { f.finds(true) })
}

func TestI5_AVersionThatDoesNotOpenIsNoValueToRollBackTo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.automatic("auto", 60)
	rotated, err := f.vault.Rotate(t.Context(), f.admin, vault.RotateRequest{Name: "auto"})
	must(t, err)
	rotated.Release()
	f.db.Exec(t, "UPDATE vault.secret_versions SET ciphertext = set_byte(ciphertext, 0, get_byte(ciphertext, 0) # 1) WHERE version = 1")
	_, err = f.vault.Rollback(t.Context(), f.admin, vault.RollbackRequest{Name: "auto", Version: 1})
	wantKind(t, err, fault.Internal)
	if f.alarms() == 0 {
		t.Error("nobody is told")
	}
	wantStates(t, f, "auto", "1 superseded", "2 current")
}

// A version may expire between the look at it and the change.
func TestI9_AVersionThatExpiresMeanwhileIsNotGoneBackTo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.login("127.0.0.1:5432")
	f.targeted("db/app", alternating)
	f.put("plain", "first")
	for _, name := range []string{"db/app", "plain"} {
		_, err := f.vault.Update(t.Context(), f.admin, vault.UpdateRequest{Name: name, GracePeriodSecs: vault.Optional[int64]{Set: true, Value: 3600}})
		must(t, err)
	}
	f.change("plain", "second")
	_, err := f.vault.Update(t.Context(), f.admin, vault.UpdateRequest{Name: "db/app", Given: vault.Given{Password: sensitive.CopyString("second")}})
	must(t, err)
	for _, name := range []string{"db/app", "plain"} {
		before := f.states(name)
		f.keeper.set(func() {
			f.made("UPDATE vault.secret_versions SET expires_at = now() WHERE version = 1 AND secret_id = (SELECT id FROM vault.secrets WHERE name = '" + name + "')")
		}, nil)
		_, err := f.vault.Rollback(t.Context(), f.admin, vault.RollbackRequest{Name: name, Version: 1})
		f.keeper.set(nil, nil)
		wantKind(t, err, fault.NotFound)
		wantStates(t, f, name, before...)
	}
}
