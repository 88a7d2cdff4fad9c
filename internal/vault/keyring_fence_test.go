package vault_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// What a transaction writes under the old root that had begun before the new one counted is seen by nobody until it ends. Until then
// the old root isn't retired, or that row would be left under it for good.
func TestI6_ARootIsNotRetiredUnderATransactionThatMayStillWrite(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.put("a", "x")
	before, err := vault.OpenKeyring(ctx, f.api, f.keeper.Local, f.vaultID) // it doesn't notice the rotation
	must(t, err)
	t.Cleanup(before.Close)
	old := f.keys()[integrity.PurposeRow][0].KeyID

	slow, err := f.db.Super(t).Begin(ctx)
	must(t, err)
	t.Cleanup(func() { _ = slow.Rollback(ctx) })
	row := integrity.Tombstone{SecretID: uuid.New(), Name: "slow", Revision: 1, DeletedAt: time.Unix(1_700_000_000, 0).UTC()}
	mac, keyID, err := before.MAC(row)
	must(t, err)
	_, err = slow.Exec(ctx, "INSERT INTO vault.deleted_secrets (secret_id, name, revision, deleted_at, mac, key_id) VALUES ($1, $2, $3, $4, $5, $6)",
		row.SecretID, row.Name, row.Revision, row.DeletedAt, mac, keyID)
	must(t, err)

	type result struct {
		rotated *vault.KeyRotated
		err     error
	}
	operator := f.open("sealkeep_operator")
	ended := make(chan result, 1)
	go func() {
		rotated, err := vault.RotateKeyring(ctx, operator, f.keeper.Local, vault.KeyRotation{Purposes: []integrity.Purpose{integrity.PurposeRow}}, vault.Config{})
		ended <- result{rotated, err}
	}()
	// It asks once which transactions are under way, and then again and again whether these have ended.
	asked := map[time.Time]bool{}
	eventually(t, "it waits for the transaction", func() bool {
		select {
		case r := <-ended:
			t.Fatalf("it didn't wait: %+v, %v", r.rotated, r.err)
		default:
		}
		for _, at := range pgtest.Query[time.Time](t, f.db, `SELECT query_start FROM pg_stat_activity
			WHERE datname = current_database() AND usename = 'sealkeep_operator' AND query LIKE '%pg_snapshot_xmin%'`) {
			asked[at] = true
		}
		return len(asked) > 3
	})
	must(t, slow.Commit(ctx))
	r := <-ended
	must(t, r.err)
	if len(r.rotated.Retired) != 1 || r.rotated.Tombstones != 1 {
		t.Errorf("%+v", r.rotated)
	}
	f.wantRetired(old)
	f.finds(false)
}
