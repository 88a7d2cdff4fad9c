package vault_test

import (
	"context"
	"testing"

	"github.com/sealkeep/sealkeep/internal/vault"
)

// BenchmarkRead reads one secret through the gate, 32 at a time, with a token and all that it takes but HTTP.
func BenchmarkRead(b *testing.B) {
	f := setup(b)
	f.put("app/secret", "a value of about the usual length, which is that of a password and then some more, say this")
	b.ReportAllocs()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			s, err := f.vault.Read(context.Background(), f.admin, vault.ReadRequest{Name: "app/secret"})
			if err != nil {
				b.Error(err)
				return
			}
			s.Release()
		}
	})
}
