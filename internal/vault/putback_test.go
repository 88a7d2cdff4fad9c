package vault_test

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// wantRefused asks that every way of a process to the secret is refused for the same reason, and raises an alarm.
func (f *fixture) wantRefused(who, name, reason string) {
	f.t.Helper()
	ctx := context.Background()
	for what, try := range map[string]func() error{
		"a read":      func() error { return f.reads(f.admin, name) },
		"a change":    func() error { return f.describe(name) },
		"a deletion":  func() error { return f.vault.Delete(ctx, f.admin, name, vault.Precondition{}) },
		"its history": func() error { _, err := f.vault.Versions(ctx, f.admin, name); return err },
		"a list":      func() error { _, err := f.vault.List(ctx, f.admin, vault.ListRequest{Prefix: name}); return err },
	} {
		before := f.alarms()
		if err := try(); err == nil || fault.KindOf(err) != fault.Internal || !strings.Contains(err.Error(), reason) {
			f.t.Errorf("%s: %s: %v", who, what, err)
		}
		if f.alarms() == before {
			f.t.Errorf("%s: %s: nobody is told", who, what)
		}
	}
}

// describe changes a secret without making a version.
func (f *fixture) describe(name string) error {
	_, err := f.vault.Update(context.Background(), f.admin,
		vault.UpdateRequest{Name: name, Description: vault.Optional[string]{Set: true, Value: "d"}})
	return err
}

// Somebody puts back what a secret was, and has a process that doesn't know better make another state of the revision that others saw.
func TestI6_AnotherStateOfTheSameRevisionIsRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	update := func(p *fixture, value string) {
		t.Helper()
		_, err := p.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: "s", Given: text(value)})
		must(t, err)
	}
	f.put("s", "one")
	reader := f.other()
	f.keepSecrets("before")
	update(f, "two")
	must(t, reader.reads(f.admin, "s"))
	f.keepSecrets("genuine")

	f.putBackSecrets("before")
	unknowing := f.other()
	update(unknowing, "another two")
	if revisions := pgtest.Query[int64](t, f.db, "SELECT revision FROM public.genuine_secrets UNION SELECT revision FROM vault.secrets"); len(revisions) != 1 {
		t.Fatalf("the states are of revisions %d, so this proves nothing", revisions)
	}
	f.wantRefused("the process that made the first", "s", "another state of the same revision")
	reader.wantRefused("one that has read the first", "s", "another state of the same revision")
	if got := unknowing.read("s"); got != "another two" {
		t.Errorf("the process that made the second reads %q", got)
	}
	f.putBackSecrets("genuine")
	if got := reader.read("s"); got != "two" {
		t.Errorf("read %q", got)
	}
	unknowing.wantRefused("the process that made the second", "s", "another state of the same revision")
}

// A secret that was deleted and made anew is put back in the new one's place, without what remained of it.
func TestI6_AFormerBearerOfANameIsRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.put("s", "former")
	f.keepSecrets("before")
	must(t, f.vault.Delete(ctx, f.admin, "s", vault.Precondition{}))
	f.put("s", "present")
	later := f.other() // which has never seen the former one
	if got := later.read("s"); got != "present" {
		t.Fatalf("read %q", got)
	}
	f.keepSecrets("genuine")
	f.putBackSecrets("before")
	later.wantRefused("a process that knows the present one", "s", "nobody deleted it")
	f.putBackSecrets("genuine")
	if got := later.read("s"); got != "present" {
		t.Errorf("read %q", got)
	}
	must(t, f.vault.Delete(ctx, f.admin, "s", vault.Precondition{}))
	f.put("s", "next")
	if got := later.read("s"); got != "next" {
		t.Errorf("after a true deletion it reads %q", got)
	}
}

// A deleted secret that is put back beside what remains of it is nobody's, for a process that has seen nothing of it too, whichever
// use case takes its name.
func TestI6_ADeletedSecretThatIsBackIsRefusedByEveryUseCase(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.automatic("s", 60)
	rotated, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "s"})
	must(t, err)
	rotated.Release()
	f.keepSecrets("before")
	must(t, f.vault.Delete(ctx, f.admin, "s", vault.Precondition{}))
	f.db.Exec(t, `INSERT INTO vault.secrets SELECT * FROM public.before_secrets;
		INSERT INTO vault.secret_versions SELECT * FROM public.before_secret_versions`)
	job := uuid.New()
	f.db.Exec(t, `INSERT INTO vault.rotation_jobs (id, secret_id, reason, due_at, base_version, run_at)
		SELECT $1, id, 'manual', now(), current_version, now() FROM vault.secrets WHERE name = 's'`, job)

	// Every use case is here, or among those that take up no secret which exists.
	tries := map[string]func(v *vault.Vault) error{
		"Read": func(v *vault.Vault) error { return disclosed(v.Read(ctx, f.admin, vault.ReadRequest{Name: "s"})) },
		"ReadBatch": func(v *vault.Vault) error {
			list, err := v.ReadBatch(ctx, f.admin, []string{"s"})
			for _, s := range list {
				s.Release()
			}
			return err
		},
		"Verify": func(v *vault.Vault) error { _, err := v.Verify(ctx, f.admin, "s", text("guess")); return err },
		"Update": func(v *vault.Vault) error {
			_, err := v.Update(ctx, f.admin, vault.UpdateRequest{Name: "s", Description: vault.Optional[string]{Set: true, Value: "d"}})
			return err
		},
		"Rotate":   func(v *vault.Vault) error { return disclosed(v.Rotate(ctx, f.admin, vault.RotateRequest{Name: "s"})) },
		"Delete":   func(v *vault.Vault) error { return v.Delete(ctx, f.admin, "s", vault.Precondition{}) },
		"Versions": func(v *vault.Vault) error { _, err := v.Versions(ctx, f.admin, "s"); return err },
		"List":     func(v *vault.Vault) error { _, err := v.List(ctx, f.admin, vault.ListRequest{}); return err },
		"Rollback": func(v *vault.Vault) error {
			return disclosed(v.Rollback(ctx, f.admin, vault.RollbackRequest{Name: "s", Version: 1}))
		},
		"Pause":     func(v *vault.Vault) error { _, err := v.Pause(ctx, f.admin, "s"); return err },
		"Resume":    func(v *vault.Vault) error { _, err := v.Resume(ctx, f.admin, "s"); return err },
		"Jobs":      func(v *vault.Vault) error { _, err := v.Jobs(ctx, f.admin, vault.JobsRequest{}); return err },
		"Job":       func(v *vault.Vault) error { _, err := v.Job(ctx, f.admin, job); return err },
		"RetryJob":  func(v *vault.Vault) error { _, err := v.RetryJob(ctx, f.admin, job); return err },
		"CancelJob": func(v *vault.Vault) error { _, err := v.CancelJob(ctx, f.admin, job); return err },
	}
	others := []string{
		"Fetch", // by what was granted since
		"Create", "Events", "Status", "CreateRole", "Roles", "Role", "SetRolePermissions", "DeleteRole", "CreateToken", "Tokens", "RevokeToken",
		"Rotation", "PauseAll", "ResumeAll",
	}
	cases := 0
	for use := reflect.TypeFor[*vault.Vault](); cases < use.NumMethod(); cases++ {
		m := use.Method(cases)
		if m.Type.NumIn() > 2 && m.Type.In(2) == reflect.TypeFor[vault.Caller]() && tries[m.Name] == nil && !slices.Contains(others, m.Name) {
			t.Errorf("%s isn't tried", m.Name)
		}
	}
	if cases < len(tries)+len(others) {
		t.Errorf("a vault has %d methods, so this proves nothing", cases)
	}
	for name, try := range tries {
		unknowing := f.other()
		err := try(unknowing.vault)
		kind := fault.Internal
		if name == "Verify" {
			kind = fault.Unavailable
		}
		if err == nil || fault.KindOf(err) != kind || !strings.Contains(err.Error(), "it was deleted, and is back") {
			t.Errorf("%s: %v", name, err)
		}
		if unknowing.alarms() == 0 {
			t.Errorf("%s: nobody is told", name)
		}
	}
	f.finds(false, "it was deleted, and is back")
	filling, _ := f.rewraps(newKeeper(t))
	logged := strings.Count(f.log.String(), "is not wrapped again")
	if did, err := filling.Rewrap(ctx); did.Done != 0 || err != nil || strings.Count(f.log.String(), "is not wrapped again") != logged+1 {
		t.Errorf("%+v, %v", did, err)
	}
	if _, err := f.rotateKeyring(vault.KeyRotation{Purposes: []integrity.Purpose{integrity.PurposeRow}}); err == nil || !strings.Contains(err.Error(), "it was deleted, and is back") {
		t.Errorf("keyring rotate: %v", err)
	}
}

func disclosed(s interface{ Release() }, err error) error {
	s.Release()
	return err
}
