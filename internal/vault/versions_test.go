package vault_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// A secret has at least one version for as long as it is there.
func TestVersionsOfASecretThatIsBeingDeletedAreNeverNone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	var done atomic.Bool
	var readers sync.WaitGroup
	var found atomic.Int64
	for range 3 {
		readers.Go(func() {
			for !done.Load() {
				versions, err := f.vault.Versions(ctx, f.admin, "fleeting")
				switch {
				case err == nil && len(versions) == 0:
					t.Error("a secret without a version")
				case err == nil:
					found.Add(1)
				case fault.KindOf(err) != fault.NotFound:
					t.Errorf("kind %s: %v", fault.KindOf(err), err)
				}
			}
		})
	}
	for range 100 {
		f.put("fleeting", "a value")
		must(t, f.vault.Delete(ctx, f.admin, "fleeting", vault.Precondition{}))
	}
	done.Store(true)
	readers.Wait()
	if found.Load() == 0 {
		t.Error("the secret was never seen, so this proves nothing")
	}
}
