package kms_test

import (
	"maps"
	"net/http"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmsd"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmstest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// recoverable is a vault with a recovery key in another Region.
func recoverable(t *testing.T) (f *fixture, recovery string) {
	t.Helper()
	server := kmstest.Start(t)
	key := server.CreateKey(t, kmsd.CreateKey{})
	recovery = server.CreateKey(t, kmsd.CreateKey{Region: "eu-west-1"})
	environ := maps.Clone(server.Environ(key))
	environ["VAULT_KMS_RECOVERY_KEY_ID"] = recovery
	return &fixture{Vault: vaulttest.New(t, vaulttest.Config{KMS: environ}), kms: server, key: key}, recovery
}

func (f *fixture) usingRecovery(t *testing.T) *vaulttest.Vault {
	t.Helper()
	return f.Another(t, vaulttest.Config{Options: []sealkeeptest.Option{sealkeeptest.WithEnv("VAULT_KMS_USE_RECOVERY", "true")}})
}

func TestTheRecoveryKeyAloneBringsAVaultBack(t *testing.T) {
	t.Parallel()
	f, recovery := recoverable(t)
	put(t, f.Vault, "a")
	decrypts := f.kms.Calls(t, "Decrypt")
	want(t, f.Vault, "a", http.StatusOK)
	if n := f.kms.Calls(t, "Decrypt") - decrypts; n != 1 {
		t.Errorf("a read made %d calls", n)
	}

	f.kms.State(t, f.key, "PendingDeletion")
	saved := f.usingRecovery(t)
	want(t, saved, "a", http.StatusOK)
	put(t, saved, "made/meanwhile")
	want(t, saved, "made/meanwhile", http.StatusOK)
	f.kms.State(t, recovery, "Disabled")
	cold := saved.Do(t, http.MethodPost, "/v1/secrets", map[string]any{"name": "b", "kind": "manual", "value": "b"})
	if cold.Status != http.StatusServiceUnavailable {
		t.Errorf("with both keys lost a secret is made: status %d", cold.Status)
	}
	f.kms.State(t, f.key, "Enabled")
	f.VerifyClean(t)
}

func TestTheRecoveryKeyMayBeAwayAndIsFilledInLater(t *testing.T) {
	t.Parallel()
	f, recovery := recoverable(t)
	saved := f.usingRecovery(t)
	f.kms.State(t, recovery, "Disabled")
	put(t, f.Vault, "a")
	want(t, f.Vault, "a", http.StatusOK)
	if f.Metric(t, "sealkeep_kms_second_wrappings_missed_total") == 0 {
		t.Error("nobody is told that the recovery key misses a data key")
	}
	lengths := func() int64 {
		return pgtest.Query[int64](t, f.DB, "SELECT sum(octet_length(wrapped_dek)) FROM vault.secret_versions")[0]
	}
	before := lengths()
	want(t, saved, "a", http.StatusServiceUnavailable)

	f.kms.State(t, recovery, "Enabled")
	rotator := f.Rotator(t, nil)
	if _, err := rotator.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lengths() <= before {
		t.Error("nothing was added")
	}
	want(t, saved, "a", http.StatusOK)
	want(t, f.Vault, "a", http.StatusOK)
	if did, err := rotator.Rewrap(t.Context()); err != nil || did.Done != 0 {
		t.Errorf("what is whole was filled again: %+v, %v", did, err)
	}
	f.VerifyClean(t)
}
