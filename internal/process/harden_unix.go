//go:build unix

package process

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Harden turns core dumps off for this process and those that it starts. It is to be the first thing that a program
// does; an error means that it must not go on.
func Harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	return undumpable()
}
