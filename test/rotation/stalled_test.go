package rotation

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/sealkeep/sealkeep/internal/target"
)

// A worker that stops right before it speaks to the target, and wakes up when others have rotated twice, is refused there.
func TestI7_AStalledWorkerAppliesNothingOld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	rapid.Check(t, func(rt *rapid.T) {
		rapid.Bool().Draw(rt, "something") // rapid has to draw
		h := newHistory(w, rt, map[string]int{}, true)
		h.becomeDue()
		ctx, cancel := h.ctx()
		defer cancel()
		late, other := w.workers[0], w.workers[1]
		if err := h.take(ctx, late); err != nil {
			rt.Fatal(err)
		}
		for late.stage != apply {
			if err := h.advance(ctx, late); err != nil {
				rt.Fatal(err)
			}
		}
		for range 2 {
			h.lapse()
			h.finish(ctx, other)
			h.becomeDue()
		}
		h.check()
		if err := h.targets.Apply(ctx, late.delivery); target.ClassOf(err) != target.Outdated {
			rt.Errorf("a late worker was told %v", err)
		}
		h.check()
		late.drop()
		h.settle()
	})
}
