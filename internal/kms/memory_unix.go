//go:build unix

package kms

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapMemory gives zeroed memory of at least size bytes outside the Go heap. locked is nil, or says why the memory could not be
// locked or kept out of core dumps.
func mapMemory(size int) (memory []byte, locked, err error) {
	page := os.Getpagesize()
	size = (size + page - 1) / page * page
	memory, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, fmt.Errorf("kms: mapping %d bytes for data keys: %w", size, err)
	}
	if err := unix.Mlock(memory); err != nil {
		locked = fmt.Errorf("locking %d bytes of memory: %w", size, err)
	}
	// One protection does without the other.
	return memory, errors.Join(locked, adviseMemory(memory)), nil
}

func unmapMemory(memory []byte) { _ = unix.Munmap(memory) }
