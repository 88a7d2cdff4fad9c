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

	s, err := f.vault.Rotate(ctx, f.admin, "rolled")
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
				if s, err := f.vault.Rotate(ctx, f.admin, "busy"); err == nil {
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
	for name, c := range map[string]struct{ sql, undo, want string }{
		"a secret":       {"UPDATE vault.secrets SET grace_period_secs = 1", "UPDATE vault.secrets SET grace_period_secs = 3600", `secrets: unverifiable`},
		"a ciphertext":   {"UPDATE vault.secret_versions SET ciphertext = ciphertext || 'x'", "UPDATE vault.secret_versions SET ciphertext = substr(ciphertext, 1, length(ciphertext) - 1)", `version 1 of secret "victim"`},
		"a tombstone":    {"UPDATE vault.deleted_secrets SET revision = 9", "UPDATE vault.deleted_secrets SET revision = 2", `deleted secret "other"`},
		"the grants":     {"UPDATE vault.authz_state SET epoch = epoch + 1", "UPDATE vault.authz_state SET epoch = epoch - 1", "grants:"},
		"row security":   {"ALTER TABLE vault.secrets NO FORCE ROW LEVEL SECURITY", "ALTER TABLE vault.secrets FORCE ROW LEVEL SECURITY", "row security of vault.secrets"},
		"a trigger":      {"ALTER TABLE vault.audit_log DISABLE TRIGGER append_only", "ALTER TABLE vault.audit_log ENABLE ALWAYS TRIGGER append_only", "trigger append_only of vault.audit_log "},
		"the keyring":    {"UPDATE vault.keyring SET created_at = created_at + interval '1 s'", "UPDATE vault.keyring SET created_at = created_at - interval '1 s'", "keyring:"},
		"a schema ahead": {"INSERT INTO vault.schema_version (version_id, is_applied) VALUES (99999, true)", "DELETE FROM vault.schema_version WHERE version_id = 99999", "run the newer release"},
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
