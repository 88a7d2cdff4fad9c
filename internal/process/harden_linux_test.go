package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

var programs = map[string]func() error{
	"harden":       func() error { return errors.Join(Harden(), hardened()) },
	"not hardened": hardened,
	"its child":    func() error { return errors.Join(Harden(), run("limited")) },
	"limited": func() error {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Max != 0 {
			return fmt.Errorf("a child may dump core: %+v %w", limit, err)
		}
		return nil
	},
}

// hardened asks the kernel.
func hardened() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return err
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	if limit.Cur != 0 || limit.Max != 0 || dumpable != 0 {
		return fmt.Errorf("core limit %d/%d, dumpable %d", limit.Cur, limit.Max, dumpable)
	}
	return nil
}

func run(program string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(context.Background(), self)
	cmd.Env = append(os.Environ(), asProgram+"="+program)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

func TestI1_HardenedProcessLeavesNoCoreDump(t *testing.T) {
	t.Parallel()
	if err := run("harden"); err != nil {
		t.Error(err)
	}
	if err := run("its child"); err != nil {
		t.Error(err)
	}
	if run("not hardened") == nil {
		t.Error("a process that isn't hardened passes too: this proves nothing")
	}
}
