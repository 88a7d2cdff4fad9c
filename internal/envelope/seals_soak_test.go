//go:build soak

package envelope

const seals = 10_000_000
