//go:build goexperiment.runtimesecret

package sensitive

import "runtime/secret"

// Do runs f, erases the registers and stack that f used when it returns, and erases what f allocated when that is
// collected: the copies of a key that ciphers keep inside and that no caller can reach. f must not start goroutines.
func Do(f func()) { secret.Do(f) }
