// Package kms_test holds a whole vault against a KMS that is another process: that fails in every way that AWS KMS has, is
// killed, comes back, throttles, and is asked for no more than it must be.
package kms_test

import (
	"net/http"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmsd"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmstest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

func TestMain(m *testing.M) {
	kmstest.Serve()
	pgtest.Main(m)
}

// fixture is a vault, its KMS, and the ARN of its key.
type fixture struct {
	*vaulttest.Vault
	kms *kmstest.Server
	key string
}

func setup(t *testing.T, options ...sealkeeptest.Option) *fixture {
	t.Helper()
	server := kmstest.Start(t)
	key := server.CreateKey(t, kmsd.CreateKey{})
	return &fixture{Vault: vaulttest.New(t, vaulttest.Config{KMS: server.Environ(key), Options: options}), kms: server, key: key}
}

// put stores a secret whose value is its name.
func put(t *testing.T, v *vaulttest.Vault, name string) {
	t.Helper()
	v.Do(t, http.MethodPost, "/v1/secrets", map[string]any{"name": name, "kind": "manual", "value": name}).Want(t, http.StatusCreated)
}

// get reads a secret, checks the value if there is one, and returns the status.
func get(t *testing.T, v *vaulttest.Vault, name string) int {
	t.Helper()
	answer, err := v.Try(t, http.MethodGet, "/v1/secrets/"+name, nil)
	if err != nil {
		t.Errorf("reading %s: %v", name, err)
		return 0
	}
	if answer.Status == http.StatusOK && answer.Text("value") != name {
		t.Errorf("%s is answered with another value", name)
	}
	return answer.Status
}

func want(t *testing.T, v *vaulttest.Vault, name string, status int) {
	t.Helper()
	if got := get(t, v, name); got != status {
		t.Errorf("reading %s: status %d, want %d", name, got, status)
	}
}

// uncached makes every read ask the KMS, and no call try again.
func uncached() []sealkeeptest.Option {
	return []sealkeeptest.Option{
		sealkeeptest.WithEnv("VAULT_DEK_CACHE_TTL_SECS", "0"), sealkeeptest.WithEnv("VAULT_KMS_MAX_RETRIES", "0"),
	}
}
