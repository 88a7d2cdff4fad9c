package kms_test

import (
	"net/http"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmsd"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmstest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

func TestI4_AnAliasThatMovesTakesTheFormerKeyOutOfUse(t *testing.T) {
	t.Parallel()
	server := kmstest.Start(t)
	former := server.CreateKey(t, kmsd.CreateKey{Alias: "alias/vault"})
	v := vaulttest.New(t, vaulttest.Config{KMS: server.Environ("alias/vault"), Options: uncached()})
	careful := v.Another(t, vaulttest.Config{Options: append(uncached(), sealkeeptest.WithEnv("VAULT_KMS_ALLOWED_KEY_IDS", former))})
	put(t, v, "before")
	want(t, v, "before", http.StatusOK)

	next := server.CreateKey(t, kmsd.CreateKey{})
	server.Alias(t, "alias/vault", next)
	want(t, v, "before", http.StatusOK) // the process doesn't know yet
	put(t, v, "after")
	put(t, careful, "later")
	for _, name := range []string{"after", "later"} {
		want(t, v, name, http.StatusOK)
		want(t, careful, name, http.StatusOK)
	}
	before := server.Calls(t, "Decrypt")
	want(t, v, "before", http.StatusInternalServerError)
	if n := server.Calls(t, "Decrypt") - before; n != 0 {
		t.Errorf("the former key was asked for %d times", n)
	}
	want(t, careful, "before", http.StatusOK)
}

func TestABareIDNamesItsKey(t *testing.T) {
	t.Parallel()
	server := kmstest.Start(t)
	arn := server.CreateKey(t, kmsd.CreateKey{})
	v := vaulttest.New(t, vaulttest.Config{KMS: server.Environ(arn[len(arn)-36:])})
	put(t, v, "a")
	want(t, v, "a", http.StatusOK)
	v.Restart(t)
	want(t, v, "a", http.StatusOK)
}

func TestAMultiRegionKeyIsOneKeyInEveryRegion(t *testing.T) {
	t.Parallel()
	const elsewhere = "us-east-1"
	server := kmstest.Start(t)
	primary := server.CreateKey(t, kmsd.CreateKey{MultiRegion: true})
	replica := server.Replicate(t, primary, elsewhere)
	v := vaulttest.New(t, vaulttest.Config{KMS: server.Environ(primary), Options: uncached()})
	there := func(key string) *vaulttest.Vault {
		return v.Another(t, vaulttest.Config{Options: append(uncached(),
			sealkeeptest.WithEnv("AWS_REGION", elsewhere), sealkeeptest.WithEnv("VAULT_KMS_KEY_ID", key))})
	}
	put(t, v, "here")
	moved, named := there(primary), there(replica)
	put(t, moved, "there")
	server.State(t, primary, kmsd.Disabled) // which no replica minds
	for _, name := range []string{"here", "there"} {
		want(t, moved, name, http.StatusOK)
		want(t, named, name, http.StatusOK)
		want(t, v, name, http.StatusServiceUnavailable)
	}
	server.State(t, primary, kmsd.Enabled)
	vaulttest.Eventually(t, "the primary serves again", func() bool { return get(t, v, "there") == http.StatusOK })
}

func TestARotatedKeyOpensWhatItWrappedBefore(t *testing.T) {
	t.Parallel()
	f := setup(t, uncached()...)
	put(t, f.Vault, "before")
	f.kms.Rotate(t, f.key)
	put(t, f.Vault, "after")
	f.kms.Kill(t)
	f.kms.Restart(t)
	for _, name := range []string{"before", "after"} {
		vaulttest.Eventually(t, name+" is served", func() bool { return get(t, f.Vault, name) == http.StatusOK })
	}
	f.VerifyClean(t)
	if stored := f.Stored(t, ""); len(stored) != 2 {
		t.Errorf("%d versions are stored", len(stored))
	}
}
