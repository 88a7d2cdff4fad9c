package rotation_test

import (
	"context"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/rotation"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// A rotator of one worker claims two jobs. Of three that wait the third is left when a fourth secret falls due.
func TestRotator_MakesJobsWhenTooFewWaitAndOnceInAWhile(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		poll time.Duration
		made int
	}{
		"while others wait it has no job":        {poll: time.Hour},
		"it has one once the rotator would poll": {poll: time.Nanosecond, made: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			names := []string{"app/1", "app/2", "app/3"}
			for _, secret := range names {
				f.due(secret, true)
			}
			// They are due by the database's clock a moment later, and nobody has locked one: who tries targets would.
			others, jobs := f.rotations(), 0
			f.eventually("there are three jobs", func() bool {
				made, err := others.Enqueue(t.Context(), 10)
				must(t, err)
				jobs += made
				return jobs == len(names)
			})
			let := make(chan struct{})
			f.start(scripted{apply: func(ctx context.Context, _ *vault.Delivery) error {
				select {
				case <-let:
				case <-ctx.Done():
				}
				return nil
			}}, rotation.Config{Workers: 1, Poll: test.poll})
			claimed := func() int {
				return pgtest.Query[int](t, f.DB, "SELECT count(*) FROM vault.rotation_jobs WHERE claim_id IS NOT NULL OR completed_at IS NOT NULL")[0]
			}
			f.eventually("it has claimed what it may", func() bool { return claimed() == 2 })
			f.due("app/late", true)
			let <- struct{}{}
			f.eventually("it has claimed the third", func() bool { return claimed() == 3 })
			has := func() int {
				return pgtest.Query[int](t, f.DB, "SELECT count(*) FROM vault.rotation_jobs j JOIN vault.secrets s ON s.id = j.secret_id WHERE s.name = 'app/late'")[0]
			}
			if test.made == 1 {
				f.eventually("the late one has a job", func() bool { return has() == 1 })
			} else if n := has(); n != 0 {
				t.Errorf("the late one has %d jobs", n)
			}
			close(let)
			f.eventually("all are rotated", func() bool { return f.version("app/late") == 2 })
			for _, secret := range names {
				if v := f.version(secret); v != 2 {
					t.Errorf("%s is at version %d", secret, v)
				}
			}
		})
	}
}
