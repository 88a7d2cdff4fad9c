package vault_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// controls stores what pauses all rotation, as the vault would.
func (f *fixture) controls(paused bool, revision int64) {
	f.t.Helper()
	row := integrity.RotationControl{Paused: paused, Revision: revision, ChangedAt: time.Now().UTC().Truncate(time.Microsecond)}
	mac, keyID, err := f.keyring.MAC(row)
	must(f.t, err)
	f.db.Exec(f.t, `INSERT INTO vault.rotation_control (paused, revision, changed_at, mac, key_id) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (singleton) DO UPDATE SET paused = $1, revision = $2, changed_at = $3, mac = $4, key_id = $5`, paused, revision, row.ChangedAt, mac, keyID)
}

// fetchable stores what lets somebody fetch the one secret there is.
func (f *fixture) fetchable() {
	f.t.Helper()
	type ids struct{ Secret, Version uuid.UUID }
	of := pgtest.Query[ids](f.t, f.db, "SELECT secret_id, version_uid FROM vault.secret_versions LIMIT 1")[0]
	at := time.Now().UTC().Truncate(time.Microsecond)
	row := integrity.Fetch{Fingerprint: make([]byte, 32), SecretID: of.Secret, VersionUID: of.Version, CreatedAt: at, ExpiresAt: at.Add(time.Hour)}
	mac, keyID, err := f.keyring.MAC(row)
	must(f.t, err)
	f.db.Exec(f.t, `INSERT INTO vault.rotation_fetches (token_sha256, secret_id, version_uid, created_at, expires_at, mac, key_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, row.Fingerprint, row.SecretID, row.VersionUID, row.CreatedAt, row.ExpiresAt, mac, keyID)
}

func (f *fixture) tells(action string, revision int64) {
	f.t.Helper()
	err := f.open("sealkeep_operator").InTx(context.Background(), func(tx *postgres.Tx) error {
		return audit.AppendOffline(context.Background(), tx, f.keyring, f.vaultID, "test", nil, audit.Record{
			Actor: "offline:test", Action: action, Outcome: "ok", RequestID: "-", Detail: fmt.Appendf(nil, `{"revision":%d}`, revision),
		})
	})
	must(f.t, err)
}

func TestI6_RotationOfTheKeyringTakesWhatPausesRotationAlong(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.put("a", "x")
	f.controls(true, 3)
	f.fetchable()
	r := f.rotator()
	old := f.keys()[integrity.PurposeRow][0].KeyID
	rotated, err := f.rotateKeyring(vault.KeyRotation{Purposes: []integrity.Purpose{integrity.PurposeRow}})
	must(t, err)
	if len(rotated.Retired) != 1 || rotated.Retired[0] != old {
		t.Fatalf("%+v", rotated)
	}
	for _, table := range []string{"rotation_control", "rotation_fetches"} {
		if n := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault."+table+" WHERE key_id = $1", old)[0]; n != 0 {
			t.Errorf("%d rows of %s are under the retired root", n, table)
		}
	}
	if paused, err := r.Paused(ctx); !paused || err != nil {
		t.Errorf("paused %v, %v", paused, err)
	}
	f.wantRetired(old)

	t.Run("and stops at one that doesn't verify", func(t *testing.T) {
		f.db.Exec(t, "UPDATE vault.rotation_control SET paused = false")
		_, err := f.rotateKeyring(vault.KeyRotation{Purposes: []integrity.Purpose{integrity.PurposeRow}})
		if err == nil || !vault.Unverifiable(err) || !strings.Contains(err.Error(), "vault.rotation_control") {
			t.Errorf("%v", err)
		}
	})
}

func TestExamine_LooksAtWhatPausesRotation(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("a", "x")
	f.finds(true)
	f.tells(vault.ActionPauseAll, 1)
	f.finds(true, "rotation: the pause of all rotation: the trail says revision 1, and the table has 0")
	f.controls(true, 1)
	f.finds(true)
	f.controls(false, 1)
	f.finds(false)
	f.finds(true, "rotation: the trail says that the pause of all rotation is true, and the table has false")
	f.controls(false, 2)
	f.finds(true, "rotation: the pause of all rotation: the trail ends at revision 1, and the table has 2")
	f.tells(vault.ActionResumeAll, 2)
	f.finds(true)
	f.controls(true, 1)
	f.finds(true, "rotation: the pause of all rotation: the trail says revision 2, and the table has 1: an older state was put back")
	f.db.Exec(t, "UPDATE vault.rotation_control SET revision = 2")
	f.finds(true, "rotation: what says whether all rotation is paused doesn't verify")
	f.db.Exec(t, "UPDATE vault.rotation_control SET changed_at = 'infinity'")
	f.finds(true, "rotation: what says whether all rotation is paused doesn't verify")
}

func TestExamine_LooksAtWhatLetsSomebodyFetch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("a", "x")
	f.fetchable()
	f.finds(true)
	f.db.Exec(t, "UPDATE vault.rotation_fetches SET expires_at = 'infinity'")
	f.finds(true, "rotation: what lets somebody fetch")
}
