package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgtest"
)

func newMasterKey(t *testing.T) string {
	t.Helper()
	text, err := kms.NewMasterKeyText(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// operator is the shell of somebody with the database and the key in hand.
func operator(t *testing.T, d *pgtest.Database) shell {
	return shell{t, map[string]string{
		"VAULT_DATABASE_URL": d.URL("sealkeep_operator"), "VAULT_KMS_MODE": "local", "VAULT_LOCAL_MASTER_KEY": newMasterKey(t),
	}}
}

func TestMigrate_BringsAnEmptyDatabaseUpToDate(t *testing.T) {
	t.Parallel()
	d := pgtest.NewEmpty(t)
	owner := shell{t, map[string]string{"VAULT_DATABASE_URL": d.URL(pgtest.Migrator)}}
	if r := owner.run("migrate status").ok().shows("no "); strings.Contains(r.stdout, "yes") {
		t.Errorf("an empty database is migrated:\n%s", r.stdout)
	}
	if made := pgtest.Query[int64](t, d, "SELECT count(*) FROM pg_namespace WHERE nspname = 'vault'"); made[0] != 0 {
		t.Error("asking for the status made the schema")
	}
	owner.run("migrate up").ok().shows("the schema is at version")
	owner.run("migrate up").ok()
	r := owner.run("migrate status --json").ok()
	var status struct {
		Items []struct {
			File    string
			Applied bool
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &status); err != nil || len(status.Items) == 0 {
		t.Fatalf("%v %s", err, r.stdout)
	}
	for _, m := range status.Items {
		if !m.Applied {
			t.Errorf("%s is not applied", m.File)
		}
	}
	readOnly := "ALTER ROLE " + pgtest.Migrator + " IN DATABASE " + d.Name()
	d.Exec(t, readOnly+" SET default_transaction_read_only = on")
	if again := owner.run("migrate status --json").ok(); again.stdout != r.stdout {
		t.Errorf("where nothing may be written the status is\n%s", again.stdout)
	}
	d.Exec(t, readOnly+" RESET ALL")
	owner.with("VAULT_DATABASE_URL", "").run("migrate up").ends(1).says("VAULT_DATABASE_URL")
	operator(t, d).run("migrate up").ends(1).says("CREATEROLE", "VAULT_DATABASE_URL")
}

func TestMigrateRoles_CanBeRunAgainAndHoldsNoPassword(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	r := shell{t, nil}.run("migrate roles --print").ok()
	for range 2 {
		d.Exec(t, r.stdout)
	}
	var statements strings.Builder
	for line := range strings.Lines(r.stdout) {
		if !strings.HasPrefix(line, "--") {
			statements.WriteString(line)
		}
	}
	if strings.Contains(strings.ToLower(statements.String()), "password") {
		t.Errorf("it sets a password:\n%s", statements.String())
	}
	r.shows(`\password sealkeep_api`)
	shell{t, nil}.run("migrate roles").ends(2).says("--print")
}

func TestInit_MakesTheVaultOnceAndShowsItsTokenOnce(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	sh := operator(t, d)
	sh.run("audit verify --database").ends(2).says("not initialised", "sealkeep init")
	sh.run("token recover spare").ends(1).says("not initialised")
	r := sh.run("init --raw").ok().says("shown once")
	token := strings.TrimSuffix(r.stdout, "\n")
	if _, err := access.ParseToken([]byte(token)); err != nil {
		t.Errorf("printed %q: %v", r.stdout, err)
	}
	sh.run("init").ends(1).says("initialised already", "token recover").hides(token)
	sh.run("audit verify --database").ends(0).shows("records in", "every record is accounted for")
}

func TestInit_TakesATokenThatIsBroughtAlong(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	token := newToken(t)
	operator(t, d).with("VAULT_BOOTSTRAP_TOKEN", "svk_bad").run("init").ends(1).says("VAULT_BOOTSTRAP_TOKEN").hides("svk_bad")
	operator(t, d).with("VAULT_BOOTSTRAP_TOKEN", token).run("init").ok().hides(token)
	fingerprint, err := access.ParseToken([]byte(token))
	if err != nil {
		t.Fatal(err)
	}
	if got := pgtest.Query[int64](t, d, "SELECT count(*) FROM vault.admin_tokens WHERE token_sha256 = $1", fingerprint[:]); got[0] != 1 {
		t.Error("it is not the admin token")
	}
}

func TestOffline_NamesWhatToFix(t *testing.T) {
	t.Parallel()
	d := pgtest.NewEmpty(t)
	sh := operator(t, d)
	sh.run("init").ends(1).says("sealkeep migrate up")
	sh.with("VAULT_DATABASE_URL", "").run("init").ends(1).says("VAULT_DATABASE_URL")
	sh.with("VAULT_LOCAL_MASTER_KEY", "").run("init").ends(1).says("VAULT_LOCAL_MASTER_KEY")
	sh.with("VAULT_KMS_MODE", "").run("init").ends(1).says("VAULT_KMS_MODE")
	nobody := sh.with("VAULT_DATABASE_URL", "postgres://u:CANARY@127.0.0.1:1/x")
	nobody.run("init").ends(1).says("PostgreSQL can't be reached", "VAULT_DATABASE_URL").hides("CANARY")
	nobody.run("migrate up").ends(1).says("PostgreSQL can't be reached", "VAULT_DATABASE_URL").hides("CANARY")
	nobody.run("audit verify --database").ends(2).says("PostgreSQL can't be reached").hides("CANARY")
	sh.with("VAULT_LOCAL_MASTER_KEY", "CANARY").run("init").ends(1).says("VAULT_LOCAL_MASTER_KEY").hides("CANARY")
	short := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(short, []byte("CANARY"), 0o600); err != nil {
		t.Fatal(err)
	}
	sh.with("VAULT_LOCAL_MASTER_KEY", "").with("VAULT_LOCAL_MASTER_KEY_FILE", short).run("init").ends(1).
		says("VAULT_LOCAL_MASTER_KEY_FILE: names a file that holds no key").hides("CANARY")
	sh.run("audit verify").ends(2).says("--database")
}

func TestTokenRecover_MakesAnAdminTokenAndIsAudited(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	sh := operator(t, d)
	sh.run("init").ok()
	sh.run("token recover spare --expires-in 1d --json").ok().shows(`"name": "spare"`, `"role": "admin"`, "svk_", `"expires_at": "`)
	sh.run("token recover spare").ends(1).says("exists")
	sh.run("token recover --raw").ends(2)
	sh.run("token recover ../x").ends(2)
	sh.run("token recover only --discard-grants").ends(2).says("nobody can confirm this: give --yes")
	if got := pgtest.Query[int64](t, d, "SELECT count(*) FROM vault.admin_tokens"); got[0] != 2 {
		t.Errorf("%d tokens are left of 2", got[0])
	}
	if got := pgtest.Query[int64](t, d, "SELECT count(*) FROM vault.audit_log WHERE action = 'token.recover'"); got[0] != 1 {
		t.Errorf("%d records say that a token was recovered", got[0])
	}
	sh.run("token recover only --discard-grants --yes").ok()
	if got := pgtest.Query[string](t, d, "SELECT name FROM vault.admin_tokens"); len(got) != 1 || got[0] != "only" {
		t.Errorf("the tokens are %q", got)
	}
	sh.with("VAULT_LOCAL_MASTER_KEY", newMasterKey(t)).run("token recover other").ends(1).says("KMS key")
}

func TestI10_AuditVerifyNamesTheRecordThatWasAltered(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	sh := operator(t, d)
	sh.run("init").ok()
	for _, name := range []string{"one", "two", "three"} {
		sh.run("token recover " + name).ok()
	}
	sh.run("audit verify --database").ends(0)
	sh.with("VAULT_LOCAL_MASTER_KEY", newMasterKey(t)).run("audit verify --database").ends(2).says("KMS key")

	// An owner can switch triggers off.
	type record struct {
		Stream string
		Leaf   string
	}
	found := pgtest.Query[record](t, d, `SELECT stream_id::text, tableoid::regclass::text FROM vault.audit_log
		WHERE action = 'token.recover' AND convert_from(detail, 'UTF8') LIKE '%two%'`)
	if len(found) != 1 {
		t.Fatalf("found %v", found)
	}
	d.Exec(t, `ALTER TABLE vault.audit_log DISABLE TRIGGER ALL; ALTER TABLE `+found[0].Leaf+` DISABLE TRIGGER ALL;
		UPDATE vault.audit_log SET actor = 'somebody else' WHERE stream_id = '`+found[0].Stream+`' AND seq = 1`)
	sh.run("audit verify --database").ends(1).shows("first bad record: stream "+found[0].Stream+" seq 1", "TAMPERING")
	r := sh.run("audit verify --database --json").ends(1)
	var report verification
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatal(err)
	}
	if report.Intact || len(report.Problems) != 1 || report.Problems[0].StreamID.String() != found[0].Stream || report.Problems[0].Seq != 1 {
		t.Errorf("%+v", report)
	}
}
