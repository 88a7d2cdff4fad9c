package vault_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// single gives a secret a target that nobody speaks to here.
func single(c *vault.CreateRequest) {
	c.Given = vault.Given{Username: sensitive.Copy([]byte("app")), Password: sensitive.Copy([]byte("first"))}
	c.GracePeriodSecs = 0
	c.Target = &secret.Target{Postgres: &secret.PostgresTarget{Hosts: []string{"127.0.0.1"}, Mode: secret.ModeSingle}}
}

// alternating is single with two roles and a login of their own, which must exist.
func alternating(c *vault.CreateRequest) {
	single(c)
	c.GracePeriodSecs = 3600
	c.Given.Username = sensitive.Copy([]byte("app_a"))
	c.Target.Postgres.Mode, c.Target.Postgres.Usernames = secret.ModeAlternating, []string{"app_a", "app_b"}
	c.Target.Postgres.LoginSecret = "db/admin"
}

func (f *fixture) login(hosts ...string) {
	f.t.Helper()
	s, err := f.vault.Create(f.t.Context(), f.admin, vault.CreateRequest{
		Name: "db/admin", Kind: "manual", LoginHosts: hosts,
		Given: vault.Given{Username: sensitive.Copy([]byte("admin")), Password: sensitive.Copy([]byte("admin's"))},
	})
	must(f.t, err)
	s.Release()
}

func TestI7_ATargetedRotationHasOnePendingVersion(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.due("db/app", single)
	enqueue(t, r, 1)
	j := claim(t, r)
	if !j.Targeted {
		t.Fatal("the job doesn't know that there is a target")
	}
	prepare(t, r, j)
	prepare(t, r, j)
	wantStates(t, f, "db/app", "1 current", "2 pending")

	first, err := r.Begin(t.Context(), j)
	must(t, err)
	defer first.Release()
	value := string(first.New.Value.Reveal())
	if first.Version != 2 || string(first.New.Username.Reveal()) != "app" || len(value) != 43 {
		t.Errorf("what is handed to the target: version %d", first.Version)
	}
	if len(first.Before) != 1 || string(first.Before[0].Value.Reveal()) != "first" {
		t.Errorf("%d credentials are known that may set it", len(first.Before))
	}
	f.lapse(j)
	late := j
	j = claim(t, f.rotations())
	if j.Step != vault.StepApplying {
		t.Errorf("the job is at %s", j.Step)
	}
	prepare(t, r, j)
	second, err := r.Begin(t.Context(), j)
	must(t, err)
	defer second.Release()
	if string(second.New.Value.Reveal()) != value {
		t.Error("another value was made")
	}
	if second.Generation <= first.Generation {
		t.Errorf("generation %d after %d", second.Generation, first.Generation)
	}
	if err := r.Promote(t.Context(), late, first); !errors.Is(err, vault.ErrClaimLost) {
		t.Errorf("who lost the claim promoted: %v", err)
	}
	wantStates(t, f, "db/app", "1 current", "2 pending")
	must(t, r.Promote(t.Context(), j, second))
	wantStates(t, f, "db/app", "1 superseded", "2 current")
	s, err := f.vault.Read(t.Context(), f.admin, vault.ReadRequest{Name: "db/app"})
	must(t, err)
	defer s.Release()
	if string(s.Material.Value.Reveal()) != value {
		t.Error("what is read isn't what the target got")
	}
	if got := f.job(j.ID); got.Outcome == nil || *got.Outcome != "rotated" {
		t.Errorf("the job: %+v", got)
	}
}

func TestRotation_AChangeByHandGivesWayToTheTarget(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	put := func(name string) error {
		_, err := f.vault.Update(t.Context(), f.admin, vault.UpdateRequest{Name: name, Given: vault.Given{Password: sensitive.Copy([]byte("by hand"))}})
		return err
	}
	f.due("db/app", single)
	enqueue(t, r, 1)
	j := claim(t, r)
	prepare(t, r, j)
	t.Run("before the target may have the new value it is made, and that one is kept", func(t *testing.T) {
		must(t, put("db/app"))
		wantStates(t, f, "db/app", "1 superseded", "2 abandoned", "3 current")
		d, err := r.Begin(t.Context(), j)
		if d != nil || err != nil {
			t.Errorf("begun: %v, %v", d, err)
		}
		if got := f.job(j.ID); got.Outcome == nil || *got.Outcome != "superseded" {
			t.Errorf("the job: %+v", got)
		}
	})
	f.db.Exec(t, "UPDATE vault.rotation_jobs SET completed_at = now(), outcome = 'x' WHERE completed_at IS NULL")
	f.due("db/other", single)
	enqueue(t, r, 1)
	j = claim(t, r)
	prepare(t, r, j)
	d, err := r.Begin(t.Context(), j)
	must(t, err)
	d.Release()
	t.Run("afterwards it is refused", func(t *testing.T) {
		for what, err := range map[string]error{"put": put("db/other"), "deleted": f.vault.Delete(t.Context(), f.admin, "db/other", vault.Precondition{})} {
			if fault.KindOf(err) != fault.Conflict {
				t.Errorf("it could be %s: %v", what, err)
			}
		}
		if _, err := f.vault.Update(t.Context(), f.admin, vault.UpdateRequest{Name: "db/other", Target: vault.Optional[secret.Target]{Set: true, Null: true}}); fault.KindOf(err) != fault.Conflict {
			t.Errorf("its target could be taken away: %v", err)
		}
	})
	t.Run("unless the job is dead, and then the value that may be live is kept", func(t *testing.T) {
		must(t, r.Fail(t.Context(), j, vault.Failure{Class: "permanent", Message: "m", Dead: true}))
		must(t, put("db/other"))
		wantStates(t, f, "db/other", "1 superseded", "2 abandoned", "3 current")
	})
}

func TestRotation_WhatIsAbandonedGoesOnceANewerIsProven(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.due("db/app", single)
	enqueue(t, r, 1)
	j := claim(t, r)
	prepare(t, r, j)
	must(t, r.Fail(t.Context(), j, vault.Failure{Class: "policy", Message: "too plain", Abandon: true}))
	wantStates(t, f, "db/app", "1 current", "2 abandoned")
	if got := f.outcomes("job:" + j.ID.String()); len(got) != 3 || got[1] != "rotation.fail policy" || got[2] != "rotation.abandon ok" {
		t.Errorf("the records: %v", got)
	}
	j = claim(t, r)
	prepare(t, r, j)
	wantStates(t, f, "db/app", "1 current", "2 abandoned", "3 pending")
	d, err := r.Begin(t.Context(), j)
	must(t, err)
	defer d.Release()
	if len(d.Before) != 2 {
		t.Errorf("%d credentials may be live at the target", len(d.Before))
	}
	must(t, r.Promote(t.Context(), j, d))
	wantStates(t, f, "db/app", "1 superseded", "3 current")
}

func TestRotation_TwoRolesTakeTurns(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.login("127.0.0.1:5432")
	f.due("db/app", alternating)
	enqueue(t, r, 1)
	rotate := func() *vault.Delivery {
		t.Helper()
		j := claim(t, r)
		prepare(t, r, j)
		d, err := r.Begin(t.Context(), j)
		var wait *vault.WaitError
		if errors.As(err, &wait) {
			must(t, r.Postpone(t.Context(), j, wait.Until))
			return nil
		}
		must(t, err)
		t.Cleanup(d.Release)
		must(t, r.Promote(t.Context(), j, d))
		return d
	}
	first := rotate()
	if string(first.New.Username.Reveal()) != "app_b" || string(first.Login.Value.Reveal()) != "admin's" || len(first.Before) != 0 {
		t.Errorf("it isn't the other role's turn, or not the login secret's to set it")
	}
	wantStates(t, f, "db/app", "1 superseded", "2 current")
	f.db.Exec(t, "SELECT 1")
	must(t, f.dueAgain("db/app"))
	enqueue(t, r, 1)
	if rotate() != nil {
		t.Fatal("a role was changed whose version is still valid")
	}
	wantStates(t, f, "db/app", "1 superseded", "2 current", "3 pending")
	if jobs, err := r.Claim(t.Context(), vault.ClaimRequest{Limit: 1, Lease: 30 * time.Second}); err != nil || len(jobs) != 0 {
		t.Errorf("the job doesn't wait: %v, %v", jobs, err)
	}
}

func TestRotation_ALoginIsSentNowhereElse(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.login("127.0.0.1:5432")
	request := vault.CreateRequest{Name: "db/app", Kind: "automatic", RotationIntervalSecs: ptr(int64(3600)), RotateOnCreate: true}
	alternating(&request)
	t.Run("not to a host that it doesn't list", func(t *testing.T) {
		elsewhere := request
		elsewhere.Target = request.Target.Canonical()
		elsewhere.Target.Postgres.Hosts = []string{"127.0.0.2:5432"}
		if _, err := f.vault.Create(t.Context(), f.admin, elsewhere); fault.KindOf(err) != fault.Invalid {
			t.Error(err)
		}
		elsewhere.Target.Postgres.Hosts, elsewhere.Target.Postgres.Standbys = []string{"127.0.0.1:5432"}, []string{"127.0.0.1:5433"}
		if _, err := f.vault.Create(t.Context(), f.admin, elsewhere); fault.KindOf(err) != fault.Invalid {
			t.Error(err)
		}
	})
	t.Run("not by who may not target it", func(t *testing.T) {
		for name, permissions := range map[string][]access.Permission{
			"own":   {{Action: "create", Path: "db/app"}, {Action: "target", Path: "db/app"}},
			"login": {{Action: "create", Path: "db/app"}, {Action: "target", Path: "db/admin"}},
		} {
			if _, err := f.vault.Create(t.Context(), f.token(name, permissions...), request); fault.KindOf(err) != fault.Denied {
				t.Errorf("%s: %v", name, err)
			}
		}
		both := f.token("both", access.Permission{Action: "create", Path: "db/app"}, access.Permission{Action: "target", Path: "db/*"})
		s, err := f.vault.Create(t.Context(), both, request)
		must(t, err)
		s.Release()
	})
	t.Run("nor its list changed by who may not", func(t *testing.T) {
		updater := f.token("updater", access.Permission{Action: "update", Path: "*"})
		hosts := vault.Optional[[]string]{Set: true, Value: []string{"127.0.0.9"}}
		if _, err := f.vault.Update(t.Context(), updater, vault.UpdateRequest{Name: "db/admin", LoginHosts: hosts}); fault.KindOf(err) != fault.Denied {
			t.Error(err)
		}
	})
	t.Run("nor when the list has changed since", func(t *testing.T) {
		_, err := f.vault.Update(t.Context(), f.admin, vault.UpdateRequest{Name: "db/admin", LoginHosts: vault.Optional[[]string]{Set: true, Null: true}})
		must(t, err)
		enqueue(t, r, 1)
		j := claim(t, r)
		prepare(t, r, j)
		d, err := r.Begin(t.Context(), j)
		if d != nil || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%v, %v", d, err)
		}
		if got := f.job(j.ID); got.Step != vault.StepPrepared {
			t.Errorf("the job: %+v", got)
		}
	})
}

func TestRotation_WhoMayOnlyUpdateNamesNoOtherRole(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.login("127.0.0.1:5432")
	f.due("db/app", func(c *vault.CreateRequest) {
		single(c)
		c.Target.Postgres.LoginSecret = "db/admin"
	})
	put := func(c vault.Caller, given vault.Given) error {
		_, err := f.vault.Update(t.Context(), c, vault.UpdateRequest{Name: "db/app", Given: given})
		return err
	}
	boss := vault.Given{Username: sensitive.CopyString("boss"), Password: sensitive.CopyString("x")}
	updater := f.token("updater", access.Permission{Action: "update", Path: "*"})
	if err := put(updater, boss); fault.KindOf(err) != fault.Denied {
		t.Errorf("a role was named by who may update alone: %v", err)
	}
	half := f.token("half", access.Permission{Action: "update", Path: "*"}, access.Permission{Action: "target", Path: "db/app"})
	if err := put(half, boss); fault.KindOf(err) != fault.Denied {
		t.Errorf("a role was named by who may not use the login: %v", err)
	}
	must(t, put(updater, vault.Given{Password: sensitive.CopyString("by hand")}))
	must(t, put(f.admin, boss))
	t.Run("nor does a rollback", func(t *testing.T) {
		f.due("db/other", func(c *vault.CreateRequest) {
			single(c)
			c.Target, c.GracePeriodSecs = nil, 3600
			c.Given.Username = sensitive.CopyString("boss")
		})
		_, err := f.vault.Update(t.Context(), f.admin, vault.UpdateRequest{
			Name: "db/other", Given: vault.Given{Username: sensitive.CopyString("app"), Password: sensitive.CopyString("second")},
		})
		must(t, err)
		_, err = f.vault.Update(t.Context(), f.admin, vault.UpdateRequest{
			Name: "db/other", GracePeriodSecs: vault.Optional[int64]{Set: true, Value: 0}, Target: vault.Optional[secret.Target]{Set: true, Value: secret.Target{
				Postgres: &secret.PostgresTarget{Hosts: []string{"127.0.0.1"}, Mode: secret.ModeSingle, LoginSecret: "db/admin"},
			}},
		})
		must(t, err)
		if _, err := f.vault.Rollback(t.Context(), f.admin, vault.RollbackRequest{Name: "db/other", Version: 1}); fault.KindOf(err) != fault.Conflict {
			t.Error(err)
		}
	})
}

func TestI6_AnEditedJobBreaksNoGrace(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.login("127.0.0.1:5432")
	f.due("db/app", alternating)
	enqueue(t, r, 1)
	j := claim(t, r)
	prepare(t, r, j)
	d, err := r.Begin(t.Context(), j)
	must(t, err)
	defer d.Release()
	must(t, r.Promote(t.Context(), j, d))
	must(t, f.dueAgain("db/app"))
	enqueue(t, r, 1)
	f.db.Exec(t, "UPDATE vault.rotation_jobs SET reason = 'rollback' WHERE completed_at IS NULL")
	j = claim(t, r)
	prepare(t, r, j)
	var wait *vault.WaitError
	if d, err := r.Begin(t.Context(), j); !errors.As(err, &wait) {
		d.Release()
		t.Errorf("a role was changed whose version is valid: %v", err)
	}
	t.Run("and one for another version than the current one hands nothing over", func(t *testing.T) {
		f.db.Exec(t, "UPDATE vault.rotation_jobs SET base_version = 1 WHERE completed_at IS NULL")
		j.BaseVersion = 1
		if d, err := r.Begin(t.Context(), j); d != nil || err != nil {
			t.Errorf("%v, %v", d, err)
		}
		if got := f.job(j.ID); got.Outcome == nil || *got.Outcome != "superseded" {
			t.Errorf("the job: %+v", got)
		}
	})
}

func TestRotation_AFullSecretWaits(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.due("app/key", func(c *vault.CreateRequest) { c.GracePeriodSecs = 3600 })
	for range secret.MaxValidVersions - 1 {
		made, err := f.vault.Rotate(t.Context(), f.admin, vault.RotateRequest{Name: "app/key"})
		must(t, err)
		made.Release()
	}
	must(t, f.dueAgain("app/key"))
	enqueue(t, r, 1)
	var wait *vault.WaitError
	if err := r.Rotate(t.Context(), claim(t, r)); !errors.As(err, &wait) || wait.Until.IsZero() {
		t.Errorf("it doesn't wait: %v", err)
	}
}
