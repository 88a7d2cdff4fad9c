//go:build unix && !linux

package dev

import "syscall"

// attributes put a child in a process group of its own, so that a Ctrl-C at the terminal reaches the parent alone. That
// the parent has died it learns from its standard input.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
