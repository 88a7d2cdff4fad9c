//go:build !unix

package kms

import "errors"

// mapMemory gives memory of the Go heap: there is no other here.
func mapMemory(size int) (memory []byte, locked, err error) {
	return make([]byte, size), errors.New("memory can't be locked on this system"), nil
}

func unmapMemory([]byte) {}
