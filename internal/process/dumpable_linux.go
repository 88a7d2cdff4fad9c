package process

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// undumpable does what the limit on core dumps doesn't: where they are piped to a program, as most distributions have
// it, the kernel ignores the limit (core(5)). It also keeps other processes of the same user from attaching to this one
// or reading its memory (ptrace(2), proc(5)). It doesn't survive an exec: a child hardens itself.
func undumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("making the process undumpable: %w", err)
	}
	return nil
}
