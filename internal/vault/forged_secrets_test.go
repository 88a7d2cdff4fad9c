package vault_test

import (
	"context"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// keepSecrets copies the secrets' tables as they are now under a name.
func (f *fixture) keepSecrets(as string) {
	f.t.Helper()
	for _, table := range []string{"secrets", "secret_versions", "deleted_secrets"} {
		f.db.Exec(f.t, "CREATE TABLE public."+as+"_"+table+" AS SELECT * FROM vault."+table)
	}
}

// putBackSecrets makes the secrets' tables what they were.
func (f *fixture) putBackSecrets(as string) {
	f.t.Helper()
	sql := "BEGIN; SET LOCAL session_replication_role = replica;"
	for _, table := range []string{"secrets", "secret_versions", "deleted_secrets"} {
		sql += "DELETE FROM vault." + table + "; INSERT INTO vault." + table + " SELECT * FROM public." + as + "_" + table + ";"
	}
	f.db.Exec(f.t, sql+"COMMIT")
}

func TestI6_MetadataCountsOnlyAsTheVaultWroteIt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.automatic("victim", 3600)
	s, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "victim"})
	must(t, err)
	s.Release()
	f.automatic("other", 60)
	f.keepSecrets("kept")
	const victim = " WHERE name = 'victim'"
	for name, sql := range map[string]string{
		"another grace":         "UPDATE vault.secrets SET grace_period_secs = 0" + victim,
		"another interval":      "UPDATE vault.secrets SET rotation_interval_secs = 9999" + victim,
		"another due time":      "UPDATE vault.secrets SET next_rotation_at = next_rotation_at + interval '1 year'" + victim,
		"another description":   "UPDATE vault.secrets SET description = 'x'" + victim,
		"another kind":          "UPDATE vault.secrets SET kind = 'manual'" + victim,
		"a target":              "UPDATE vault.secrets SET target = 'x'" + victim,
		"metadata":              `UPDATE vault.secrets SET custom_metadata = '{"a":"b"}'` + victim,
		"another revision":      "UPDATE vault.secrets SET revision = revision + 1" + victim,
		"another's mac":         "UPDATE vault.secrets s SET mac = o.mac FROM vault.secrets o WHERE s.name = 'victim' AND o.name = 'other'",
		"no mac":                "UPDATE vault.secrets SET mac = NULL" + victim,
		"a key of no keyring":   "UPDATE vault.secrets SET key_id = gen_random_uuid()" + victim,
		"the older one current": "BEGIN; UPDATE vault.secret_versions SET state = 'abandoned', expires_at = NULL WHERE version = 2; UPDATE vault.secret_versions SET state = 'current', expires_at = NULL WHERE version = 1 AND secret_id = (SELECT id FROM vault.secrets" + victim + "); UPDATE vault.secrets SET current_version = 1" + victim + "; COMMIT",
	} {
		t.Run(name, func(t *testing.T) {
			f.db.Exec(t, sql)
			before := f.alarms()
			description := vault.UpdateRequest{Name: "victim", Description: vault.Optional[string]{Set: true, Value: "new"}}
			wantKind(t, f.reads(f.admin, "victim"), fault.Internal)
			_, err := f.vault.Verify(ctx, f.admin, "victim", text("guess"))
			wantKind(t, err, fault.Unavailable)
			_, err = f.vault.Update(ctx, f.admin, description)
			wantKind(t, err, fault.Internal)
			_, err = f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "victim"})
			wantKind(t, err, fault.Internal)
			wantKind(t, f.vault.Delete(ctx, f.admin, "victim", vault.Precondition{}), fault.Internal)
			_, err = f.vault.Versions(ctx, f.admin, "victim")
			wantKind(t, err, fault.Internal)
			_, err = f.vault.List(ctx, f.admin, vault.ListRequest{})
			wantKind(t, err, fault.Internal)
			_, err = f.vault.ReadBatch(ctx, f.admin, []string{"other", "victim"})
			wantKind(t, err, fault.Internal)
			if n := f.alarms() - before; n != 8 {
				t.Errorf("%v alarms from eight calls", n)
			}
			must(t, f.reads(f.admin, "other"))
			f.putBackSecrets("kept")
			must(t, f.reads(f.admin, "victim"))
		})
	}
}

func TestI6_AChangeNeverVouchesForAVersionThatSomebodyPutThere(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.automatic("victim", 3600)
	for range 2 {
		s, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "victim"})
		must(t, err)
		s.Release()
	}
	f.keepSecrets("kept")
	for name, sql := range map[string]string{
		"a version is removed":  "DELETE FROM vault.secret_versions WHERE version = 1",
		"a version is added":    "INSERT INTO vault.secret_versions (secret_id, version, version_uid, state, kms_key_id, wrapped_dek, nonce, ciphertext, mac, key_id) SELECT secret_id, 9, gen_random_uuid(), 'abandoned', kms_key_id, wrapped_dek, nonce, ciphertext, mac, key_id FROM vault.secret_versions WHERE version = 1",
		"a grace is longer":     "UPDATE vault.secret_versions SET expires_at = expires_at + interval '1 year' WHERE version = 1",
		"another ciphertext":    "UPDATE vault.secret_versions SET ciphertext = ciphertext || 'x' WHERE version = 1",
		"a moment of wrapping":  "UPDATE vault.secret_versions SET wrapped_at = now() WHERE version = 1",
		"two macs have changed": "UPDATE vault.secret_versions v SET mac = o.mac FROM vault.secret_versions o WHERE (v.version, o.version) IN ((1, 2), (2, 1))",
	} {
		t.Run(name, func(t *testing.T) {
			f.db.Exec(t, sql)
			_, err := f.vault.Rotate(ctx, f.as(name), vault.RotateRequest{Name: "victim"})
			wantKind(t, err, fault.Internal)
			if got := f.outcomes(name); len(got) != 1 || got[0] != "secret.rotate unverifiable" {
				t.Errorf("records %q", got)
			}
			_, err = f.vault.Versions(ctx, f.admin, "victim")
			wantKind(t, err, fault.Internal)
			_, err = f.vault.Verify(ctx, f.admin, "victim", text("guess"))
			wantKind(t, err, fault.Unavailable)
			// The current one is as it was, but is it? Only the macs of all tell, which every look compares.
			switch name {
			case "a version is removed", "a version is added", "two macs have changed":
				wantKind(t, f.reads(f.admin, "victim"), fault.Internal)
			default:
				must(t, f.reads(f.admin, "victim"))
			}
			f.putBackSecrets("kept")
		})
	}
	s, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "victim"})
	must(t, err)
	s.Release()
}

func TestI6_AnOlderStateThatIsPutBackWholeIsRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.automatic("s", 0)
	reader := f.other() // which only reads
	must(t, reader.reads(f.admin, "s"))
	f.keepSecrets("before")
	s, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "s"})
	must(t, err)
	s.Release()
	must(t, reader.reads(f.admin, "s"))
	f.keepSecrets("after")

	f.putBackSecrets("before")
	for who, p := range map[string]*fixture{"the process that changed it": f, "one that has read it": reader} {
		if err := p.reads(f.admin, "s"); fault.KindOf(err) != fault.Internal || !strings.Contains(err.Error(), "an older state of it was put back") {
			t.Errorf("%s: %v", who, err)
		}
		if p.alarms() == 0 {
			t.Errorf("%s: no alarm", who)
		}
	}
	_, err = f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "s"})
	wantKind(t, err, fault.Internal)
	_, err = f.vault.List(ctx, f.admin, vault.ListRequest{})
	wantKind(t, err, fault.Internal)
	_, err = f.vault.Versions(ctx, f.admin, "s")
	wantKind(t, err, fault.Internal)
	f.putBackSecrets("after")
	must(t, f.reads(f.admin, "s"))
	must(t, reader.reads(f.admin, "s"))
}

func TestI6_ASecretThatIsGoneIsToldFromOneThatWasDeleted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.put("deleted", "x")
	f.put("vanished", "y")
	other := f.other()
	for _, name := range []string{"deleted", "vanished"} {
		must(t, other.reads(f.admin, name))
	}
	f.keepSecrets("before")
	must(t, f.vault.Delete(ctx, f.admin, "deleted", vault.Precondition{}))
	f.db.Exec(t, "DELETE FROM vault.secrets WHERE name = 'vanished'")
	for who, p := range map[string]*fixture{"the process that deleted": f, "another": other} {
		wantKind(t, p.reads(f.admin, "deleted"), fault.NotFound)
		wantKind(t, p.reads(f.admin, "vanished"), fault.Internal)
		wantKind(t, p.vault.Delete(ctx, f.admin, "vanished", vault.Precondition{}), fault.Internal)
		_, err := p.vault.Versions(ctx, f.admin, "vanished")
		wantKind(t, err, fault.Internal)
		before := p.alarms()
		wantKind(t, disclosed(p.vault.Create(ctx, f.as("create by "+who), vault.CreateRequest{Name: "vanished", Kind: "manual", Given: text("z")})), fault.Internal)
		p.wantOutcomes("create by "+who, "secret.create unverifiable")
		if p.alarms() == before {
			t.Errorf("%s: a secret is made in the place of one that is gone, and nobody is told", who)
		}
		if p.alarms() == 0 {
			t.Errorf("%s: no alarm", who)
		}
	}
	wantKind(t, f.reads(f.admin, "never"), fault.NotFound)
	tombstones := pgtest.Query[string](t, f.db, "SELECT name FROM vault.deleted_secrets WHERE mac IS NOT NULL")
	if len(tombstones) != 1 || tombstones[0] != "deleted" {
		t.Errorf("what remains is %q", tombstones)
	}

	// It comes back with its tombstone in place: nobody takes it for genuine. Without, those who knew don't.
	put := `INSERT INTO vault.secrets SELECT * FROM public.before_secrets WHERE name = 'deleted';
		INSERT INTO vault.secret_versions SELECT v.* FROM public.before_secret_versions v JOIN public.before_secrets s ON s.id = v.secret_id WHERE s.name = 'deleted'`
	f.db.Exec(t, put)
	for _, p := range []*fixture{f, other, f.other()} {
		wantKind(t, p.reads(f.admin, "deleted"), fault.Internal)
	}
	f.db.Exec(t, "DELETE FROM vault.deleted_secrets")
	for _, p := range []*fixture{f, other} {
		wantKind(t, p.reads(f.admin, "deleted"), fault.Internal)
	}
	f.db.Exec(t, "DELETE FROM vault.secrets")
	f.putBackSecrets("before")
	t.Run("a tombstone that was forged is none", func(t *testing.T) {
		f.db.Exec(t, `INSERT INTO vault.deleted_secrets SELECT id, name, revision + 1, now(), mac, key_id FROM vault.secrets WHERE name = 'vanished'`)
		f.db.Exec(t, "DELETE FROM vault.secrets WHERE name = 'vanished'")
		wantKind(t, other.reads(f.admin, "vanished"), fault.Internal)
	})
}
