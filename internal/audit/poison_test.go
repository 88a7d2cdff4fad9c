package audit

import (
	"fmt"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestI2_PoisonFailsAlone(t *testing.T) {
	t.Parallel()
	for _, positions := range [][]int{{0}, {37}, {99}, {0, 1, 50, 51, 98, 99}} {
		t.Run(fmt.Sprint(positions), func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.db.Exec(t, "ALTER TABLE vault.audit_log ADD CONSTRAINT poison CHECK (actor <> 'poison')")
			a, run := f.loaded()
			poisoned := map[string]bool{}
			records := recordsOf(names("record", 100))
			for _, i := range positions {
				records[i].Actor = "poison"
				poisoned[records[i].RequestID] = true
			}
			answers := submit(t, a, t.Context(), records...)
			run()
			for request, answer := range answers {
				err := <-answer
				switch found := len(f.where(request)); {
				case poisoned[request]:
					wantKind(t, err, fault.Internal)
					if found != 0 {
						t.Errorf("%s is poison, and is there", request)
					}
				case err != nil || found != 1:
					t.Errorf("%s is there %d times: %v", request, found, err)
				}
			}
			if n := len(f.streams(kindRead)); n != 1 {
				t.Errorf("a definite rollback cost the lane: %d streams", n)
			}
			f.clean()
		})
	}
}
