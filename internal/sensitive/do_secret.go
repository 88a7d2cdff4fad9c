//go:build goexperiment.runtimesecret && linux && (amd64 || arm64)

package sensitive

import "runtime/secret"

// Erases tells whether [Do] erases anything in this build.
const Erases = true

// Do runs f, erases the registers and stack that f used when it returns, and erases what f allocated when that is
// collected: the copies of a key that ciphers keep inside and that no caller can reach. f must not start goroutines, which
// would not be covered.
func Do(f func()) { secret.Do(f) }
