package cli

import (
	"encoding/json"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

func TestDoctor_SaysWhatItFoundByItsStatusToo(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	sh := operator(t, d)
	sh.run("doctor").ends(2).says("not initialised")
	sh.run("init").ok()
	sh.run("doctor").ends(0).shows("note: replication is asynchronous", "checked: 0 secrets with 0 versions, 0 deleted secrets; 1 role with 0 permissions, 1 token\n", "nothing was found")
	sh.run("doctor --against-audit").ends(0).shows("compared with 3 records in 1 stream\n", "nothing was found")
	sh.run("doctor --help").ok().shows("were put back together are not found")
	sh.run("doctor everything").ends(2)
	sh.with("VAULT_DATABASE_URL", "postgres://u:CANARY@127.0.0.1:1/x").run("doctor").ends(2).says("PostgreSQL can't be reached").hides("CANARY")
	sh.with("VAULT_LOCAL_MASTER_KEY", newMasterKey(t)).run("doctor").ends(2).says("is this the vault's own KMS key?").hides("checked: ", "FINDINGS")
	api := sh.with("VAULT_DATABASE_URL", d.URL("sealkeep_api"))
	api.run("doctor").ends(1).shows("found: login: the login sealkeep_api is not in vault_operator")
	sh.with("VAULT_DATABASE_URL", d.URL(pgtest.Superuser)).run("doctor").ends(1).shows("found: login: the login of this command passes by row security")

	// The grants as they were before a token, put back whole.
	d.Exec(t, "CREATE TABLE public.tokens AS SELECT * FROM vault.admin_tokens; CREATE TABLE public.state AS SELECT * FROM vault.authz_state")
	sh.run("token recover spare").ok()
	sh.run("doctor --against-audit").ends(0)
	d.Exec(t, `DELETE FROM vault.admin_tokens; INSERT INTO vault.admin_tokens SELECT * FROM public.tokens;
		DELETE FROM vault.authz_state; INSERT INTO vault.authz_state SELECT * FROM public.state`)
	sh.run("doctor").ends(0)
	sh.run("doctor --against-audit").ends(1).shows("found: grants: the trail says that their epoch came to 2, and the table has 1", "FINDINGS: 1")
	r := sh.run("doctor --against-audit --json").ends(1)
	var report examination
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatal(err)
	}
	if report.Found != 1 || len(report.Findings) != 1 || report.Findings[0].Area != "grants" || report.Records == nil || *report.Records == 0 {
		t.Errorf("%+v", report)
	}
}
