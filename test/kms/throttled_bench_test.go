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

// BenchmarkWarmReadsWhileKMSThrottles prints the median latency of reads whose data keys are kept while others read what is
// cold, more of it than a KMS that takes 50 calls a second can unwrap, over the median while that KMS takes all of them; in
// turns, several rounds.
func BenchmarkWarmReadsWhileKMSThrottles(b *testing.B) {
	server := kmstest.Start(b)
	key := server.CreateKey(b, kmsd.CreateKey{})
	v := vaulttest.New(b, vaulttest.Config{KMS: server.Environ(key), Options: []sealkeeptest.Option{sealkeeptest.WithEnv("VAULT_DEK_CACHE_TTL_SECS", "3600")}})
	read := func(name string) (int, time.Duration) {
		began := time.Now()
		answer, err := v.Try(b, http.MethodGet, "/v1/secrets/"+name, nil)
		if err != nil {
			b.Error(err)
			return 0, 0
		}
		return answer.Status, time.Since(began)
	}
	const cold = 1500 // more than the rounds come to
	for i := range cold {
		v.Do(b, http.MethodPost, "/v1/secrets", map[string]any{"name": fmt.Sprint("cold/", i), "kind": "manual", "value": "x"}).Want(b, http.StatusCreated)
	}
	v.Do(b, http.MethodPost, "/v1/secrets", map[string]any{"name": "warm", "kind": "manual", "value": "x"}).Want(b, http.StatusCreated)
	read("warm")
	var next atomic.Int64
	round := func(throttled bool) (median time.Duration) {
		if throttled {
			server.Throttle(b, 50)
		} else {
			server.Throttle(b, 0)
		}
		var ended atomic.Bool
		var others sync.WaitGroup
		for range 4 {
			others.Go(func() {
				for !ended.Load() {
					read(fmt.Sprint("cold/", next.Add(1)%cold))
				}
			})
		}
		var took []time.Duration
		for range 300 {
			status, d := read("warm")
			if status != http.StatusOK {
				b.Errorf("a warm read is answered with %d", status)
			}
			took = append(took, d)
		}
		ended.Store(true)
		others.Wait()
		slices.Sort(took)
		return took[len(took)/2]
	}
	var ratios []float64
	for b.Loop() {
		free := round(false)
		ratios = append(ratios, float64(round(true))/float64(free))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "throttled/free")
	b.ReportMetric(0, "ns/op")
}
