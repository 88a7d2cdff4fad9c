package vault_test

import (
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// Where a worker died between the target and the vault, applications are kept out until somebody goes on: not behind all that fell due before.
func TestRotation_WhatATargetMayHaveGoesFirst(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	begun := func(name string) *vault.Job {
		t.Helper()
		f.due(name, single)
		enqueue(t, r, 1)
		j := claim(t, r)
		prepare(t, r, j)
		d, err := r.Begin(t.Context(), j)
		must(t, err)
		d.Release()
		return j
	}
	refused, left := begun("db/refused"), begun("db/left")
	must(t, r.Fail(t.Context(), refused, vault.Failure{Class: "transient", Message: "m"}))
	for _, name := range []string{"app/a", "app/b", "app/c"} {
		f.due(name)
	}
	enqueue(t, r, 3)
	f.db.Exec(t, "UPDATE vault.rotation_jobs SET run_at = now() - interval '1 h' WHERE step = 'queued'")
	f.db.Exec(t, "UPDATE vault.rotation_jobs SET run_at = now() WHERE class IS NOT NULL")
	f.lapse(left)

	claimed := func(limit int) (names []string) {
		t.Helper()
		jobs, err := r.Claim(t.Context(), vault.ClaimRequest{Limit: limit, Lease: 30 * time.Second})
		must(t, err)
		for _, j := range jobs {
			names = append(names, j.Secret)
		}
		return names
	}
	if names := claimed(1); len(names) != 1 || names[0] != "db/left" {
		t.Errorf("%v was claimed first", names)
	}
	f.lapse(left)
	if names := claimed(3); len(names) != 3 {
		t.Errorf("of what is in haste and what isn't, %v were claimed in place of 3", names)
	}
	if names := claimed(10); len(names) != 2 {
		t.Errorf("%v were left", names)
	}
	if jobs := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.rotation_jobs WHERE claim_id IS NOT NULL")[0]; jobs != 5 {
		t.Errorf("%d jobs are claimed", jobs)
	}
}
