package vault_test

import (
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// A prober that is slow, or was stopped, comes with what it found of a version that has been replaced since.
func TestRotation_AProbeThatComesLateChangesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.due("db/app", single)
	look := func() (*vault.Probe, *vault.Delivery) {
		t.Helper()
		f.db.Exec(t, "UPDATE vault.rotation_probes SET next_at = now()")
		due, err := r.Probes(t.Context(), 10)
		must(t, err)
		if len(due) != 1 {
			t.Fatalf("%d tries are due", len(due))
		}
		d, err := r.Look(t.Context(), &due[0])
		must(t, err)
		t.Cleanup(d.Release)
		return &due[0], d
	}
	found := func() (versions []int64) {
		t.Helper()
		return pgtest.Query[int64](t, f.db, "SELECT v.version FROM vault.rotation_probes p JOIN vault.secret_versions v USING (version_uid)")
	}
	enqueue(t, r, 1)
	j := claim(t, r)
	prepare(t, r, j)
	p, d := look()
	ours, err := r.Begin(t.Context(), j)
	must(t, err)
	defer ours.Release()
	must(t, r.Promote(t.Context(), j, ours))
	for what, late := range map[string]vault.Probed{
		"that it works":          {OK: true, Pause: time.Hour},
		"that another one works": {Class: "authentication", Message: "m", Pause: time.Minute, Repair: true},
		"that it isn't answered": {Class: "transient", Message: "m", Pause: time.Minute},
	} {
		must(t, r.Tell(t.Context(), p, d, late))
		if n := found(); len(n) != 0 {
			t.Errorf("%s was noted of version %v", what, n)
		}
	}
	if n := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.audit_log WHERE action = 'rotation.probe'")[0]; n != 0 {
		t.Errorf("%d records of it", n)
	}
	enqueue(t, r, 0)
	if n := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.rotation_jobs WHERE completed_at IS NULL")[0]; n != 0 {
		t.Errorf("%d jobs were made of it", n)
	}
	p, d = look()
	must(t, r.Tell(t.Context(), p, d, vault.Probed{OK: true, Pause: time.Hour}))
	if n := found(); len(n) != 1 || n[0] != 2 {
		t.Errorf("what was found in time was noted of version %v", n)
	}
}
