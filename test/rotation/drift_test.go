package rotation

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/test/targetpg"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

type probe struct {
	Version int64
	OK      bool
	Class   string
}

func probed(t *testing.T, v *vaulttest.Vault) probe {
	t.Helper()
	rows := pgtest.Query[probe](t, v.DB, `SELECT coalesce(v.version, 0), p.ok, coalesce(p.class, '')
		FROM vault.rotation_probes p LEFT JOIN vault.secret_versions v ON v.secret_id = p.secret_id AND v.version_uid = p.version_uid`)
	if len(rows) == 0 {
		return probe{}
	}
	return rows[0]
}

// A password that somebody puts back at the target is found by trying, and the current one is set again. One that nobody knows is told of and left
// alone: what would be set might be what somebody had good reasons to lock out.
func TestDriftIsRepairedOnlyFromWhatTheVaultKnows(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for tries that are 10 s apart")
	}
	const role = "app"
	v := vaulttest.New(t, vaulttest.Config{})
	target := targetpg.Start(t)
	first := target.Role(t, role, "")
	name := single(t, v, target, role, first, "")
	// Nothing is tried before the password is put back: once the new one has proved to work, the vault may forget the old one.
	v.DB.Exec(t, `CREATE FUNCTION public.later() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE TRIGGER later BEFORE UPDATE ON vault.rotation_probes FOR EACH ROW EXECUTE FUNCTION public.later()`)
	makeDue(t, v, name)
	r := rotator(t, v)
	vaulttest.Eventually(t, "it is rotated", func() bool {
		return pgtest.Query[int64](t, v.DB, "SELECT current_version FROM vault.secrets WHERE name = $1", name)[0] == 2
	})
	var second string
	for _, kept := range v.Stored(t, name) {
		if kept.State == "current" {
			second = kept.Value
		}
	}
	if !target.Has(t, role, second) {
		t.Fatal("the target doesn't have the new password")
	}

	target.Set(t, role, first)
	v.DB.Exec(t, "DROP TRIGGER later ON vault.rotation_probes")
	vaulttest.Eventually(t, "the current password is set again", func() bool { return target.Has(t, role, second) })
	vaulttest.Eventually(t, "the job is over, and another try says that it works", func() bool {
		return jobsOf(t, v) == "scheduled rotated,drift repaired" && probed(t, v) == probe{2, true, ""}
	})
	if made := pgtest.Query[int64](t, v.DB, "SELECT max(version) FROM vault.secret_versions")[0]; made != 2 {
		t.Errorf("the repair made version %d", made)
	}

	const unknown = "a password that nobody knows"
	failed := r.Metric(t, `sealkeep_rotation_probes_total{result="authentication"}`)
	target.Set(t, role, unknown)
	vaulttest.Eventually(t, "a try says that it doesn't work", func() bool { return probed(t, v) == probe{2, false, "authentication"} })
	vaulttest.Eventually(t, "and another", func() bool {
		return r.Metric(t, `sealkeep_rotation_probes_total{result="authentication"}`) >= failed+2
	})
	if jobs := jobsOf(t, v); jobs != "scheduled rotated,drift repaired" {
		t.Errorf("the jobs are %s", jobs)
	}
	if !target.Has(t, role, unknown) {
		t.Error("what nobody knows was replaced")
	}
	read := v.Do(t, http.MethodGet, "/v1/secrets/"+name, nil).Want(t, http.StatusOK)
	if read.Text("password") != second || read.Number("version") != 2 {
		t.Errorf("version %v is read", read.Number("version"))
	}
	if told := recordsOf(t, v, "rotation.probe"); told != "ok authentication ok authentication" && told != "authentication ok authentication" {
		t.Errorf("the trail tells of tries: %s", told)
	}
	v.VerifyClean(t)
}

func jobsOf(t *testing.T, v *vaulttest.Vault) string {
	t.Helper()
	return strings.Join(pgtest.Query[string](t, v.DB, "SELECT reason || ' ' || coalesce(outcome, 'open') FROM vault.rotation_jobs ORDER BY enqueued_at"), ",")
}

func recordsOf(t *testing.T, v *vaulttest.Vault, action string) string {
	t.Helper()
	return strings.Join(pgtest.Query[string](t, v.DB, "SELECT outcome FROM vault.audit_log WHERE action = $1 ORDER BY at, seq", action), " ")
}
