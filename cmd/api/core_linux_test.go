package main

import (
	"fmt"
	"os"
	"regexp"
	"syscall"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
)

// It is the kernel that is asked, not the program.
func TestI1_TheRunningProgramLeavesNoCoreDump(t *testing.T) {
	t.Parallel()
	environ, _ := newVault(t)
	p := sealkeeptest.StartProgram(t, environ)
	p.Await(t, "listening", "listener", "api")
	folder := fmt.Sprintf("/proc/%d/", p.Cmd.Process.Pid)
	limits, err := os.ReadFile(folder + "limits")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^Max core file size +0 +0 +bytes`).Match(limits) {
		t.Errorf("it may dump core:\n%s", limits)
	}
	// What isn't dumpable belongs to root in /proc (proc(5)), which tells nothing of a program that root runs.
	mem, err := os.Stat(folder + "mem")
	if err != nil {
		t.Fatal(err)
	}
	if owner := mem.Sys().(*syscall.Stat_t).Uid; owner != 0 {
		t.Errorf("its memory belongs to user %d: whoever that is may read it", owner)
	}
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := p.Status(t); status != 0 {
		t.Errorf("exited with %d", status)
	}
}
