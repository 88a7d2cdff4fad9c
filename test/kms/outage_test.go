package kms_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

func TestColdReadersOfOneVersionMakeOneCall(t *testing.T) {
	t.Parallel()
	f := setup(t)
	put(t, f.Vault, "a")
	before := f.kms.Calls(t, "Decrypt")
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() { want(t, f.Vault, "a", http.StatusOK) })
	}
	all.Wait()
	if n := f.kms.Calls(t, "Decrypt") - before; n != 1 {
		t.Errorf("a thousand readers made %d calls", n)
	}
	for range 10 {
		want(t, f.Vault, "a", http.StatusOK)
	}
	if n := f.kms.Calls(t, "Decrypt") - before; n != 1 {
		t.Errorf("reads of what is kept made calls: %d in all", n)
	}
}

func TestI4_WhenTheKMSIsKilled(t *testing.T) {
	t.Parallel()
	f := setup(t)
	brief := f.Another(t, vaulttest.Config{Options: []sealkeeptest.Option{sealkeeptest.WithEnv("VAULT_DEK_CACHE_TTL_SECS", "1")}})
	put(t, f.Vault, "warm")
	put(t, f.Vault, "cold")
	want(t, f.Vault, "warm", http.StatusOK)
	want(t, brief, "warm", http.StatusOK)
	versions := func() int64 { return pgtest.Query[int64](t, f.DB, "SELECT count(*) FROM vault.secret_versions")[0] }
	stored := versions()

	f.kms.Kill(t)
	want(t, f.Vault, "warm", http.StatusOK)
	want(t, f.Vault, "cold", http.StatusServiceUnavailable)
	for name, answer := range map[string]*sealkeeptest.Response{
		"create": f.Do(t, http.MethodPost, "/v1/secrets", map[string]any{"name": "new", "kind": "manual", "value": "new"}),
		"update": f.Do(t, http.MethodPut, "/v1/secrets/warm", map[string]any{"value": "new"}),
	} {
		if answer.Status != http.StatusServiceUnavailable || answer.Text("code") != "unavailable" {
			t.Errorf("%s: status %d, %s", name, answer.Status, answer.Body)
		}
	}
	vaulttest.Eventually(t, "the breaker opens", func() bool {
		want(t, f.Vault, "cold", http.StatusServiceUnavailable)
		return f.Metric(t, "sealkeep_kms_breaker_open") == 1
	})
	status := f.Do(t, http.MethodGet, "/v1/status", nil).Want(t, http.StatusOK)
	if told, _ := status.JSON["kms"].(map[string]any); told["state"] != "unavailable" || told["breaker"] == "closed" || told["mode"] != "aws" || told["key_id"] != f.key {
		t.Errorf("status tells %v", told)
	}
	if f.Metric(t, "sealkeep_kms_up") != 0 {
		t.Error("the metrics say that KMS is up")
	}
	if err := f.Process.Ready(t.Context()); err != nil {
		t.Errorf("a process that serves what it knows isn't ready: %v", err)
	}
	vaulttest.Eventually(t, "after its time a key serves no more", func() bool { return get(t, brief, "warm") == http.StatusServiceUnavailable })
	want(t, f.Vault, "warm", http.StatusOK)
	if n := versions(); n != stored {
		t.Errorf("%d versions are stored, %d were", n, stored)
	}

	f.kms.Restart(t)
	vaulttest.Eventually(t, "cold reads are served again", func() bool { return get(t, f.Vault, "cold") == http.StatusOK })
	vaulttest.Eventually(t, "the other process recovers too", func() bool { return get(t, brief, "warm") == http.StatusOK })
	put(t, f.Vault, "new")
	want(t, f.Vault, "new", http.StatusOK)
	status = f.Do(t, http.MethodGet, "/v1/status", nil).Want(t, http.StatusOK)
	if told, _ := status.JSON["kms"].(map[string]any); told["state"] != "ok" || told["breaker"] != "closed" || told["last_error"] != "unavailable" {
		t.Errorf("status tells %v", told)
	}
	f.VerifyClean(t)
}

func TestThrottlingSlowsColdReadsAndNoWarmOne(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const cold = 24
	names := make([]string, cold)
	for i := range names {
		names[i] = "cold/" + string(rune('a'+i))
		put(t, f.Vault, names[i])
	}
	put(t, f.Vault, "warm")
	want(t, f.Vault, "warm", http.StatusOK)

	f.kms.Throttle(t, 10)
	var ended atomic.Bool
	var warm, all sync.WaitGroup
	for range 4 {
		warm.Go(func() {
			for !ended.Load() {
				want(t, f.Vault, "warm", http.StatusOK)
			}
		})
	}
	var served atomic.Int64
	for _, name := range names {
		all.Go(func() {
			switch status := get(t, f.Vault, name); status {
			case http.StatusOK:
				served.Add(1)
			case http.StatusServiceUnavailable:
			default:
				t.Errorf("%s: status %d", name, status)
			}
		})
	}
	all.Wait()
	if f.Metric(t, `sealkeep_kms_attempts_total{result="throttled"}`) == 0 {
		t.Error("KMS throttled nothing, so this proves nothing")
	}
	if served.Load() < cold/2 {
		t.Errorf("%d of %d cold reads were served by a KMS that takes ten calls a second", served.Load(), cold)
	}
	if state := f.Metric(t, "sealkeep_kms_breaker_open"); state != 0 {
		t.Error("throttling opened the breaker")
	}
	for _, name := range names {
		vaulttest.Eventually(t, name+" is served", func() bool { return get(t, f.Vault, name) == http.StatusOK })
	}
	ended.Store(true)
	warm.Wait()
}
