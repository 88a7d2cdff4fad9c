package dev

import "syscall"

// attributes put a child in a process group of its own, so that a Ctrl-C at the terminal reaches the parent alone, and
// have the kernel end it when the parent's thread that started it ends.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
