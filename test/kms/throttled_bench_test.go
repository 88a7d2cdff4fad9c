package kms_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmsd"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmstest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

const (
	throttledRate = 50                   // calls a second that the KMS takes which throttles
	coldEvery     = 8 * time.Millisecond // between reads of what is cold: two and a half times as many as that
	roundFor      = 1500 * time.Millisecond
	coldInRound   = int(roundFor / coldEvery)
)

// BenchmarkWarmReadsWhileKMSThrottles prints the median latency of reads whose data keys are kept while others read what is cold, more
// of it than a KMS that takes 50 calls a second can unwrap, over that median with a KMS that takes all of them. Each KMS has a vault of
// its own, as one that was throttled once is asked slowly for a while; the same reads are sent to both, in turns.
func BenchmarkWarmReadsWhileKMSThrottles(b *testing.B) {
	free, throttled := newThrottledVault(b, b.N*coldInRound), newThrottledVault(b, b.N*coldInRound)
	throttled.kms.Throttle(b, throttledRate)
	var ratios []float64
	b.ResetTimer()
	for range b.N {
		unhindered := free.round(b)
		ratios = append(ratios, float64(throttled.round(b))/float64(unhindered))
	}
	b.StopTimer()
	const attempts = `sealkeep_kms_attempts_total{result="throttled"}`
	if free.Metric(b, attempts) != 0 || throttled.Metric(b, attempts) == 0 {
		b.Error("the one KMS throttled, or the other didn't: this compares nothing")
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "throttled/free")
	b.ReportMetric(ratios[0], "least")
	b.ReportMetric(ratios[len(ratios)-1], "most")
	b.ReportMetric(0, "ns/op")
}

// throttledVault is a vault with secrets that it has never read, and one that it has.
type throttledVault struct {
	*vaulttest.Vault
	kms  *kmstest.Server
	next int // of the cold ones
}

func newThrottledVault(b *testing.B, cold int) *throttledVault {
	b.Helper()
	server := kmstest.Start(b)
	environ := server.Environ(server.CreateKey(b, kmsd.CreateKey{}))
	v := &throttledVault{kms: server, Vault: vaulttest.New(b, vaulttest.Config{
		KMS: environ, Options: []sealkeeptest.Option{sealkeeptest.WithEnv("VAULT_DEK_CACHE_TTL_SECS", "3600")},
	})}
	for i := range cold {
		v.Do(b, http.MethodPost, "/v1/secrets", map[string]any{"name": fmt.Sprint("cold/", i), "kind": "manual", "value": "x"}).Want(b, http.StatusCreated)
	}
	v.Do(b, http.MethodPost, "/v1/secrets", map[string]any{"name": "warm", "kind": "manual", "value": "x"}).Want(b, http.StatusCreated)
	v.Do(b, http.MethodGet, "/v1/secrets/warm", nil).Want(b, http.StatusOK)
	return v
}

// round gives the median latency of warm reads, one after the other, while cold ones are sent whether or not those before were answered.
func (v *throttledVault) round(b *testing.B) time.Duration {
	b.Helper()
	var sent atomic.Bool
	var others sync.WaitGroup
	others.Go(func() {
		defer sent.Store(true)
		every := time.NewTicker(coldEvery)
		defer every.Stop()
		for range coldInRound {
			<-every.C
			name := fmt.Sprint("/v1/secrets/cold/", v.next)
			v.next++
			others.Go(func() {
				// A read that finds no turn within its time is refused, which is what a KMS that throttles comes to.
				answer, err := v.Try(b, http.MethodGet, name, nil)
				if err != nil || answer.Status != http.StatusOK && answer.Status != http.StatusServiceUnavailable {
					b.Errorf("%s: %v %v", name, answer, err)
				}
			})
		}
	})
	var took []time.Duration
	for !sent.Load() {
		began := time.Now()
		v.Do(b, http.MethodGet, "/v1/secrets/warm", nil).Want(b, http.StatusOK)
		took = append(took, time.Since(began))
	}
	others.Wait()
	slices.Sort(took)
	return took[len(took)/2]
}
