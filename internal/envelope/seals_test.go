//go:build !soak

package envelope

// seals is how many nonces are compared; `make soak` compares more.
const seals = 1_000_000
