package cli

import (
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

func TestRewrap_AsksAndSaysHowTheLastLookStands(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	sh := operator(t, d)
	sh.run("rewrap").ends(1).says("initialised: run `sealkeep init`")
	sh.run("init").ok()
	sh.run("rewrap x").ends(2)
	sh.run("rewrap").ok().shows("asked").hides("the last look")
	asked := func(sql string) bool { return pgtest.Query[bool](t, d, "SELECT "+sql+" FROM vault.rewrap_state")[0] }
	if !asked("requested_at <= now() AND again_before IS NULL") {
		t.Error("nothing was asked for, or all")
	}
	sh.run("rewrap --all --json").ok().shows(`"state": "never"`, `"remaining": 0`, `"last_error": null`)
	if !asked("again_before = requested_at") {
		t.Error("not all was asked for")
	}
	d.Exec(t, `UPDATE vault.rewrap_state SET state = 'failed', started_at = '2026-01-02 03:04:05Z', finished_at = now(), found = 7, done = 4, failed = 1,
		error = 'KMS is away', note = 'blind'`)
	sh.run("rewrap").ok().shows("failed", "4 of 7 versions wrapped again, 1 failed", "KMS is away", "blind")
	sh.run("audit verify --database").ok()
	sh.run("doctor --against-audit").ok().shows("nothing was found")
	if n := pgtest.Query[int](t, d, "SELECT count(*) FROM vault.audit_log WHERE action = 'rewrap.request' AND outcome = 'ok'")[0]; n != 3 {
		t.Errorf("%d records of three requests", n)
	}
	d.Exec(t, "DELETE FROM vault.rewrap_state")
	sh.run("rewrap").ends(1).says("vault.rewrap_state")
}
