package envelope

import (
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// BenchmarkOpen is what erasing costs: scripts/bench-secret.sh runs it with and without.
func BenchmarkOpen(b *testing.B) {
	b.Logf("erases: %t", sensitive.Erases)
	dek := key(1)
	for name, size := range map[string]int{"100B": 100, "64KiB": 64 << 10} {
		b.Run(name, func(b *testing.B) {
			sealed := sealText(b, dek, place(), strings.Repeat("v", size))
			b.ReportAllocs()
			for b.Loop() {
				plaintext, err := Open(dek, place(), sealed)
				if err != nil {
					b.Fatal(err)
				}
				plaintext.Release()
			}
		})
	}
}
