//go:build !unix

package process

// Harden does nothing here: this system has no core dumps to turn off.
func Harden() error { return nil }
