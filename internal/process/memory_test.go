package process

import (
	"os"
	"runtime/debug"
	"testing"
)

// It changes the whole process, so it runs by itself.
func TestTuneMemory_LeavesTheLastWordToTheEnvironment(t *testing.T) {
	before, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	t.Cleanup(func() {
		debug.SetGCPercent(before)
		debug.SetMemoryLimit(limit)
	})
	tuned := func() int {
		TuneMemory()
		return debug.SetGCPercent(100)
	}
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Setenv(name, "") // it is put back when the test ends
		_ = os.Unsetenv(name)
	}
	if got := tuned(); got != gcPercent {
		t.Errorf("the pace is %d", got)
	}
	TuneMemoryWithin(1 << 30)
	if got := debug.SetMemoryLimit(limit); got != 1<<30 {
		t.Errorf("the limit is %d", got)
	}
	debug.SetGCPercent(100)
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Setenv(name, "50")
		TuneMemoryWithin(1 << 30)
		if got := debug.SetMemoryLimit(-1); got != limit {
			t.Errorf("with %s the limit is %d", name, got)
		}
		if got := tuned(); got != 100 {
			t.Errorf("with %s the pace is %d", name, got)
		}
		_ = os.Unsetenv(name)
	}
}
