package process

import (
	"os"
	"runtime/debug"
	"testing"
)

// It changes the whole process, so it runs by itself.
func TestTuneMemory_LeavesTheLastWordToTheEnvironment(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
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
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Setenv(name, "50")
		if got := tuned(); got != 100 {
			t.Errorf("with %s the pace is %d", name, got)
		}
		_ = os.Unsetenv(name)
	}
}
