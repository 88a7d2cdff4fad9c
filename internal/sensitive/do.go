//go:build !goexperiment.runtimesecret || !linux || !(amd64 || arm64)

package sensitive

// Erases tells whether [Do] erases anything in this build.
const Erases = false

// Do runs f. In a build with GOEXPERIMENT=runtimesecret, on Linux on amd64 or arm64, it also erases the registers and stack
// that f used when it returns, and what f allocated when that is collected: the copies of a key that ciphers keep inside
// and that no caller can reach. In this build it only calls f.
func Do(f func()) { f() }
