package vault_test

import (
	"context"
	"testing"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// A revocation that somebody takes back right away, before any look at the tables, is known to the process that made it.
func TestI6_ARevocationThatIsTakenBackAtOnceStands(t *testing.T) {
	t.Parallel()
	for name, undo := range map[string]func(t *testing.T, f *fixture){
		"all of it": func(_ *testing.T, f *fixture) { f.putBackGrants("before") },
		"the epoch": func(t *testing.T, f *fixture) {
			t.Helper()
			f.db.Exec(t, "UPDATE vault.authz_state SET epoch = epoch - 1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.put("s", "x")
			reader := f.token("reader", access.Permission{Action: access.Read, Path: "s"})
			other := f.other()
			must(t, f.reads(reader, "s"))
			must(t, other.reads(reader, "s"))
			f.keepGrants("before")
			must(t, f.vault.RevokeToken(context.Background(), f.admin, "reader"))
			undo(t, f)
			for range 3 {
				if err := f.reads(reader, "s"); fault.KindOf(err) != fault.Unavailable && fault.KindOf(err) != fault.Unauthenticated {
					t.Fatalf("the revoked token reads: %v", err)
				}
			}
			if f.alarms() == 0 {
				t.Error("nobody is told")
			}
			if _, err := f.vault.CreateRole(context.Background(), f.admin, vault.RoleRequest{Name: "honest"}); err == nil {
				t.Error("a change vouches for what was put back")
			}
		})
	}
}

func TestI6_AVersionThatWasNeverCommittedIsNoCurrentOne(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("s", "one")
	f.db.Exec(t, `CREATE SEQUENCE public.spied; CREATE TABLE public.spoils (LIKE vault.secret_versions);
		CREATE FUNCTION public.spy() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
			IF nextval('public.spied') = 1 THEN INSERT INTO public.spoils SELECT NEW.*; RETURN NULL; END IF; RETURN NEW; END $$;
		CREATE TRIGGER spy BEFORE INSERT ON vault.secret_versions FOR EACH ROW EXECUTE FUNCTION public.spy()`)
	update := func(value string) error {
		_, err := f.vault.Update(context.Background(), f.admin, vault.UpdateRequest{Name: "s", Given: text(value)})
		return err
	}
	// Its row is swallowed and kept; what the update left of the secret is put back.
	pgtest.Query[int64](t, f.db, "SELECT count(*) FROM public.spoils")
	f.keepSecrets("before")
	_ = update("never stored")
	if pgtest.Query[int64](t, f.db, "SELECT count(*) FROM public.spoils")[0] != 1 {
		t.Fatal("the first update's row was not kept")
	}
	f.db.Exec(t, "DROP TRIGGER spy ON vault.secret_versions")
	f.putBackSecrets("before")
	f = f.other() // which has seen nothing of that
	must(t, func() error {
		_, err := f.vault.Update(context.Background(), f.admin, vault.UpdateRequest{Name: "s", Given: text("two")})
		return err
	}())
	f.db.Exec(t, "DELETE FROM vault.secret_versions WHERE version = 2; INSERT INTO vault.secret_versions SELECT * FROM public.spoils")
	for who, reader := range map[string]*fixture{"the process that wrote": f, "a new one": f.other()} {
		wantKind(t, reader.reads(reader.admin, "s"), fault.Internal)
		if reader.alarms() == 0 {
			t.Errorf("%s tells nobody", who)
		}
	}
}
