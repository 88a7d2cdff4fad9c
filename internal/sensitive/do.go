//go:build !goexperiment.runtimesecret

package sensitive

// Do runs f. In a build with GOEXPERIMENT=runtimesecret it also erases the registers and stack that f used when it
// returns, and what f allocated when that is collected: the copies of a key that ciphers keep inside and that no
// caller can reach. In this build it only calls f.
func Do(f func()) { f() }
