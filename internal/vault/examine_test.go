package vault_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func (f *fixture) examine(againstAudit bool) *vault.Examination {
	f.t.Helper()
	report, err := vault.Examine(context.Background(), f.open("sealkeep_operator"), f.keeper.Local, vault.ExamineOptions{AgainstAudit: againstAudit})
	must(f.t, err)
	return report
}

// finds requires that each text is in a finding, and that there are no other findings.
func (f *fixture) finds(againstAudit bool, texts ...string) {
	f.t.Helper()
	report := f.examine(againstAudit)
	for _, text := range texts {
		found := false
		for _, finding := range report.Findings {
			found = found || strings.Contains(finding.Area+": "+finding.What, text)
		}
		if !found {
			f.t.Errorf("%q was not found in %q", text, report.Findings)
		}
	}
	if int(report.Found) != len(texts) {
		f.t.Errorf("%d findings, want %d: %q", report.Found, len(texts), report.Findings)
	}
}

func TestI6_TablesThatWerePutBackAreFoundAgainstTheTrail(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.automatic("rolled", 3600)
	f.put("deleted", "x")
	f.token("ops", access.Permission{Action: access.Read, Path: "a/*"})
	f.token("gone", access.Permission{Action: access.Read, Path: "b/*"})
	f.finds(true)
	f.keepSecrets("old")
	f.keepGrants("old")

	s, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "rolled"})
	must(t, err)
	s.Release()
	must(t, f.vault.Delete(ctx, f.admin, "deleted", vault.Precondition{}))
	f.put("later", "y")
	_, err = f.vault.SetRolePermissions(ctx, f.admin, "ops", []access.Permission{{Action: access.Rotate, Path: "c"}})
	must(t, err)
	must(t, f.vault.RevokeToken(ctx, f.admin, "ops"))
	must(t, f.vault.RevokeToken(ctx, f.admin, "gone"))
	must(t, f.vault.DeleteRole(ctx, f.admin, "gone"))
	_, err = f.vault.CreateRole(ctx, f.admin, vault.RoleRequest{Name: "new"})
	must(t, err)
	f.finds(true)
	f.keepSecrets("new")
	f.keepGrants("new")

	// Every MAC is true, so nothing shows without the trail.
	f.putBackSecrets("old")
	f.finds(false)
	f.finds(true,
		`secret "rolled": the trail says revision 2, version 2, and the table has revision 1, version 1`,
		`secret "deleted": the trail says that it was deleted, and the table has it at revision 1`,
		`secret "deleted": the trail says that it was deleted, and nothing in vault.deleted_secrets does`,
		`secret "later": the trail says revision 1, version 1, and the table has none`)
	f.putBackSecrets("new")

	f.putBackGrants("old")
	f.finds(false)
	f.finds(true,
		"their epoch came to ",
		`token "ops": the trail says that it was revoked`, `token "gone": the trail says that it was revoked`,
		`role "ops": the trail says admin false and permissions`, `role "gone": the trail says that it was deleted`,
		`role "new": the trail says that it was made`)
	f.putBackGrants("new")
	f.finds(true)

	// What the vault's keys vouch for and no record made.
	f.db.Exec(t, "UPDATE vault.secrets SET description = 'x' WHERE name = 'later'")
	f.finds(false, `secret "later"`)
	f.made("SELECT 1")
	f.finds(false)
	f.finds(true, `secret "later": the trail ends at revision 1, version 1, and the table has revision 2`)
	f.putBackSecrets("new")
	f.db.Exec(t, "DELETE FROM vault.deleted_secrets")
	f.finds(false)
	f.finds(true, `secret "deleted": the trail says that it was deleted, and nothing in vault.deleted_secrets does`)
}

func TestI6_AnExaminationUnderLoadFindsNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.automatic("busy", 0)
	stop := make(chan struct{})
	var load sync.WaitGroup
	for worker := range 3 {
		load.Add(1)
		go func() {
			defer load.Done()
			name := []string{"one", "two", "three"}[worker]
			for {
				select {
				case <-stop:
					return
				default:
				}
				if s, err := f.vault.Create(ctx, f.admin, vault.CreateRequest{Name: name, Kind: "manual", Given: text("v")}); err == nil {
					s.Release()
				}
				if s, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "busy"}); err == nil {
					s.Release()
				}
				if _, err := f.vault.CreateRole(ctx, f.admin, vault.RoleRequest{Name: name}); err == nil {
					_ = f.vault.DeleteRole(ctx, f.admin, name)
				}
				_ = f.vault.Delete(ctx, f.admin, name, vault.Precondition{})
			}
		}()
	}
	for range 8 {
		f.finds(true)
	}
	close(stop)
	load.Wait()
	if report := f.examine(true); report.Trail.Records == 0 || report.Deleted == 0 || report.Untold != 0 {
		t.Errorf("%+v", report)
	}
}

func TestI6_AnExaminationFindsWhatDoesNotVerify(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.automatic("victim", 3600)
	f.put("other", "x")
	must(t, f.vault.Delete(context.Background(), f.admin, "other", vault.Precondition{}))
	f.finds(false)
	day := pgtest.Query[string](t, f.db, "SELECT max(c.relname::text) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE inhparent = 'vault.audit_log'::regclass")[0]
	for name, c := range map[string]struct{ sql, undo, want string }{
		"a secret":                     {"UPDATE vault.secrets SET grace_period_secs = 1", "UPDATE vault.secrets SET grace_period_secs = 3600", `secrets: unverifiable`},
		"a ciphertext":                 {"UPDATE vault.secret_versions SET ciphertext = ciphertext || 'x'", "UPDATE vault.secret_versions SET ciphertext = substr(ciphertext, 1, length(ciphertext) - 1)", `version 1 of secret "victim"`},
		"a tombstone":                  {"UPDATE vault.deleted_secrets SET revision = 9", "UPDATE vault.deleted_secrets SET revision = 2", `deleted secret "other"`},
		"the grants":                   {"UPDATE vault.authz_state SET epoch = epoch + 1", "UPDATE vault.authz_state SET epoch = epoch - 1", "grants:"},
		"row security":                 {"ALTER TABLE vault.secrets NO FORCE ROW LEVEL SECURITY", "ALTER TABLE vault.secrets FORCE ROW LEVEL SECURITY", "row security of vault.secrets"},
		"a trigger":                    {"ALTER TABLE vault.audit_log DISABLE TRIGGER append_only", "ALTER TABLE vault.audit_log ENABLE ALWAYS TRIGGER append_only", "trigger append_only of vault.audit_log "},
		"a trigger less":               {"DROP TRIGGER kept ON vault.audit_streams", "CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON vault.audit_streams FOR EACH STATEMENT EXECUTE FUNCTION vault.refuse_audit_rewrite(); ALTER TABLE vault.audit_streams ENABLE ALWAYS TRIGGER kept", "the trigger kept of vault.audit_streams is missing"},
		"a trigger of its name":        {"CREATE OR REPLACE TRIGGER kept BEFORE DELETE ON vault.audit_streams FOR EACH STATEMENT EXECUTE FUNCTION vault.refuse_audit_rewrite(); ALTER TABLE vault.audit_streams ENABLE ALWAYS TRIGGER kept", "CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON vault.audit_streams FOR EACH STATEMENT EXECUTE FUNCTION vault.refuse_audit_rewrite(); ALTER TABLE vault.audit_streams ENABLE ALWAYS TRIGGER kept", "the trigger kept of vault.audit_streams isn't as the schema has it"},
		"a trigger of a day less":      {"DROP TRIGGER append_only ON vault." + day, "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON vault." + day + " FOR EACH STATEMENT EXECUTE FUNCTION vault.refuse_audit_rewrite(); ALTER TABLE vault." + day + " ENABLE ALWAYS TRIGGER append_only", "the trigger append_only of vault." + day + " is missing"},
		"what a trigger does":          {"UPDATE pg_proc SET prosrc = 'BEGIN RETURN NULL; END; --' || prosrc WHERE proname = 'refuse_audit_rewrite'", "UPDATE pg_proc SET prosrc = substr(prosrc, 27) WHERE proname = 'refuse_audit_rewrite'", "the function vault.refuse_audit_rewrite isn't as the schema has it"},
		"a policy less":                {"DROP POLICY true_time ON vault.audit_log", "CREATE POLICY true_time ON vault.audit_log AS RESTRICTIVE FOR INSERT TO PUBLIC WITH CHECK (at >= now() - interval '5 minutes' AND at <= clock_timestamp() + interval '5 minutes')", "the policy true_time of vault.audit_log is missing"},
		"a policy that bounds nothing": {"ALTER POLICY true_time ON vault.audit_log WITH CHECK (true)", "ALTER POLICY true_time ON vault.audit_log WITH CHECK (at >= now() - interval '5 minutes' AND at <= clock_timestamp() + interval '5 minutes')", "the policy true_time of vault.audit_log isn't as the schema has it"},
		"a policy more":                {"CREATE POLICY open ON vault.secret_versions FOR SELECT TO PUBLIC USING (true)", "DROP POLICY open ON vault.secret_versions", "the policy open of vault.secret_versions isn't the schema's"},
		"a constraint less":            {"ALTER TABLE vault.secrets DROP CONSTRAINT secrets_finite", "ALTER TABLE vault.secrets ADD CONSTRAINT secrets_finite CHECK (isfinite(created_at)) NOT VALID", "the constraint secrets_finite of vault.secrets is missing"},
		"an index less":                {"DROP INDEX vault.secret_versions_one_current", "CREATE UNIQUE INDEX secret_versions_one_current ON vault.secret_versions (secret_id) WHERE state = 'current'", "the unique index secret_versions_one_current of vault.secret_versions is missing"},
		"the keyring":                  {"UPDATE vault.keyring SET created_at = created_at + interval '1 s'", "UPDATE vault.keyring SET created_at = created_at - interval '1 s'", "keyring:"},
		"a schema ahead":               {"INSERT INTO vault.schema_version (version_id, is_applied) VALUES (99999, true)", "DELETE FROM vault.schema_version WHERE version_id = 99999", "run the newer release"},
	} {
		f.db.Exec(t, c.sql)
		want := c.want
		if name == "a secret" {
			want = `secret "victim"`
		}
		f.finds(false, want)
		f.db.Exec(t, c.undo)
	}
	f.finds(false)
	days := pgtest.Query[string](t, f.db, "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE inhparent = 'vault.audit_log'::regclass ORDER BY 1 DESC LIMIT 3")
	for _, day := range days {
		f.db.Exec(t, "DROP TABLE vault."+day)
	}
	f.finds(false, "audit partitions reach only")
}

// The trail alone was put back to what it was: it verifies, for every chain ends where its stream says, and doesn't tell of what the
// tables have had since.
func TestI6_WhatNoRecordMadeIsFound(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.put("before", "x")
	f.db.Exec(t, `BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE TABLE public.log AS SELECT * FROM vault.audit_log;
		CREATE TABLE public.streams AS SELECT * FROM vault.audit_streams; COMMIT`)
	f.put("made", "x")
	f.token("ops", access.Permission{Action: access.Read, Path: "*"})
	must(t, f.vault.Stop(ctx))
	must(t, f.trail.Stop(ctx))
	f.finds(true)
	switching := func(how string) string {
		sql := "ALTER TABLE vault.audit_log " + how + " TRIGGER append_only; ALTER TABLE vault.audit_streams " + how + " TRIGGER kept;"
		for _, leaf := range pgtest.Query[string](t, f.db, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'vault.audit_log'::regclass") {
			sql += "ALTER TABLE " + leaf + " " + how + " TRIGGER append_only;"
		}
		return sql
	}
	f.db.Exec(t, "BEGIN;"+switching("DISABLE")+`DELETE FROM vault.audit_log; INSERT INTO vault.audit_log SELECT * FROM public.log;
		DELETE FROM vault.audit_streams; INSERT INTO vault.audit_streams SELECT * FROM public.streams;`+switching("ENABLE ALWAYS")+"COMMIT")
	if report := f.verifyTrail(); report.Found != 0 {
		t.Fatalf("the trail that was put back: %+v", report.Problems)
	}
	f.finds(false)
	f.finds(true,
		`secret "made": the table has it at revision 1, and no record says that it was made`,
		`token "ops": it is live in the table, and no record says that it was issued`,
		`role "ops": the table has it, and no record says that it was made`,
		"grants: the trail ends at epoch 1, and the table has 3")
}

// Days of the trail that were dropped took with them what the tables could be compared with: that is counted.
func TestExamination_WhatWentWithDroppedDaysIsCountedAndNotReported(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.automatic("s", 60)
	f.token("ops", access.Permission{Action: access.Read, Path: "*"})
	if report := f.examine(true); report.Untold != 0 || report.Trail.Dropped != 0 {
		t.Errorf("%+v", report)
	}
	today := pgtest.Query[string](t, f.db, "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "+
		"WHERE inhparent = 'vault.audit_log'::regclass AND c.relname <= to_char(now() AT TIME ZONE 'GMT', '\"audit_log_\"YYYYMMDD')")
	for _, day := range today {
		f.db.Exec(t, "DROP TABLE vault."+day)
	}
	f.finds(true, "the audit trail has no partition for today")
	// The secret, two roles, two tokens, and the epoch.
	if report := f.examine(true); report.Untold != 6 || report.Trail.Dropped == 0 || report.Trail.Found != 0 {
		t.Errorf("%d untold, %d dropped, %d problems", report.Untold, report.Trail.Dropped, report.Trail.Found)
	}
	if f.verifyTrail().Found == 0 {
		t.Error("a trail without its first days verifies as if it were whole")
	}
	f.db.Exec(t, "SELECT vault.ensure_audit_partitions(8)")
}
