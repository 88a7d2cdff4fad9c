package kms

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// adviseMemory keeps memory out of core dumps and out of children that are forked. Kernels before 4.14 don't know how to
// wipe on a fork; a Go program forks only to execute another at once.
func adviseMemory(memory []byte) error {
	if err := unix.Madvise(memory, unix.MADV_DONTDUMP); err != nil {
		return fmt.Errorf("keeping memory out of core dumps: %w", err)
	}
	_ = unix.Madvise(memory, unix.MADV_WIPEONFORK)
	return nil
}
