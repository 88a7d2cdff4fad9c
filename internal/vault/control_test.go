package vault_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func TestPauseAllHasRotatorsBeginNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	ctx := t.Context()
	claims := func() int {
		t.Helper()
		jobs, err := r.Claim(ctx, vault.ClaimRequest{Limit: 1, Lease: 30 * time.Second})
		if !errors.Is(err, vault.ErrPaused) {
			must(t, err)
		}
		return len(jobs)
	}
	s, err := f.vault.Rotation(ctx, f.admin)
	must(t, err)
	if s.Paused || !s.Verified || s.ChangedAt != nil {
		t.Errorf("before anybody paused it: %+v", s)
	}
	f.due("a")
	f.due("b")
	enqueue(t, r, 2)
	s, err = f.vault.PauseAll(ctx, f.as("pause"))
	must(t, err)
	if !s.Paused || !s.Verified || s.ChangedAt == nil || s.Open != 2 {
		t.Errorf("%+v", s)
	}
	if got := f.outcomes("pause"); !slices.Equal(got, []string{"rotation.pause_all ok"}) {
		t.Errorf("the records: %q", got)
	}
	if n := claims(); n != 0 {
		t.Errorf("%d jobs were claimed although all is paused", n)
	}
	_, err = f.vault.PauseAll(ctx, f.admin)
	must(t, err)
	s, err = f.vault.ResumeAll(ctx, f.admin)
	must(t, err)
	if s.Paused || !s.Verified {
		t.Errorf("%+v", s)
	}
	if n := claims(); n != 1 {
		t.Errorf("%d jobs were claimed", n)
	}
	s, err = f.vault.Rotation(ctx, f.other().admin)
	must(t, err)
	if s.Paused || s.Open != 2 || s.Running != 1 || s.OldestDueSecs < 0 {
		t.Errorf("%+v", s)
	}
	t.Run("and it shows in the status", func(t *testing.T) {
		status, err := f.vault.Status(ctx, f.admin)
		must(t, err)
		if status.Rotation.Open != 2 || status.Rotation.Running != 1 {
			t.Errorf("%+v", status.Rotation)
		}
	})
	t.Run("and the trail and the tables agree", func(t *testing.T) { f.finds(true) })
}

// Whoever edits the row that pauses all rotation, puts an older one back or takes it away stops rotation, and nothing else.
func TestI6_AnEditedPauseStopsRotation(t *testing.T) {
	t.Parallel()
	for name, tamper := range map[string]string{
		"edited":      "UPDATE vault.rotation_control SET paused = NOT paused",
		"raised":      "UPDATE vault.rotation_control SET revision = revision + 1000000",
		"put back":    "UPDATE vault.rotation_control c SET paused = o.paused, revision = o.revision, changed_at = o.changed_at, mac = o.mac, key_id = o.key_id FROM public.old o",
		"without MAC": "UPDATE vault.rotation_control SET mac = NULL, key_id = NULL",
		"gone":        "DELETE FROM vault.rotation_control",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			r := f.rotations()
			ctx := t.Context()
			f.due("a")
			enqueue(t, r, 1)
			_, err := f.vault.ResumeAll(ctx, f.admin)
			must(t, err)
			f.db.Exec(t, "CREATE TABLE public.old AS SELECT * FROM vault.rotation_control")
			_, err = f.vault.PauseAll(ctx, f.admin)
			must(t, err)
			_, err = r.Paused(ctx)
			must(t, err)
			f.db.Exec(t, tamper)

			if jobs, err := r.Claim(ctx, vault.ClaimRequest{Limit: 1, Lease: 30 * time.Second}); err == nil || fault.KindOf(err) != fault.Internal || len(jobs) != 0 {
				t.Errorf("a rotator claimed %d jobs: %v", len(jobs), err)
			}
			before := f.alarms()
			s, err := f.vault.Rotation(ctx, f.admin)
			must(t, err)
			if s.Verified || !s.Paused {
				t.Errorf("%+v", s)
			}
			if f.alarms() == before {
				t.Error("nobody is told")
			}
			status, err := f.vault.Status(ctx, f.admin)
			must(t, err)
			if status.Rotation.Verified {
				t.Errorf("%+v", status.Rotation)
			}
			t.Run("until an administrator says what is to be", func(t *testing.T) {
				s, err := f.vault.ResumeAll(ctx, f.admin)
				must(t, err)
				if s.Paused || !s.Verified {
					t.Errorf("%+v", s)
				}
				claim(t, r)
			})
		})
	}
}
