package vault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

var allButCheckpoint = []integrity.Purpose{integrity.PurposeRow, integrity.PurposeAudit, integrity.PurposeIdempotency}

// rotateKeyring rotates as an operator does, from another process.
func (f *fixture) rotateKeyring(r vault.KeyRotation) (*vault.KeyRotated, error) {
	f.t.Helper()
	return vault.RotateKeyring(context.Background(), f.open("sealkeep_operator"), f.keeper.Local, r, vault.Config{})
}

func (f *fixture) keys() map[integrity.Purpose][]vault.KeyInfo {
	f.t.Helper()
	infos, err := vault.Keys(context.Background(), f.open("sealkeep_operator"), f.keeper.Local, nil)
	must(f.t, err)
	by := map[integrity.Purpose][]vault.KeyInfo{}
	for _, k := range infos {
		by[k.Purpose] = append(by[k.Purpose], k)
	}
	return by
}

// named counts the rows of all tables whose MAC is under a root.
func (f *fixture) named(id uuid.UUID) (n int64) {
	f.t.Helper()
	for _, table := range []string{"secrets", "secret_versions", "deleted_secrets", "roles", "role_permissions", "admin_tokens", "authz_state"} {
		n += pgtest.Query[int64](f.t, f.db, "SELECT count(*) FROM vault."+table+" WHERE key_id = $1", id)[0]
	}
	return n
}

func (f *fixture) wantRetired(old uuid.UUID) {
	f.t.Helper()
	if n := f.named(old); n != 0 {
		f.t.Errorf("%d rows name the root that was replaced", n)
	}
	for _, k := range f.keys()[integrity.PurposeRow] {
		if (k.KeyID == old) != (k.State == vault.KeyRetired) {
			f.t.Errorf("the row root %s is %s", k.KeyID, k.State)
		}
	}
}

func TestI6_RotationGoesOnWhileOthersReadAndWrite(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	for i := range 40 {
		f.automatic(fmt.Sprintf("load/%d", i), 3600)
	}
	f.put("gone", "x")
	must(t, f.vault.Delete(ctx, f.admin, "gone", vault.Precondition{}))
	old := f.keys()[integrity.PurposeRow][0].KeyID
	oldAudit := f.keys()[integrity.PurposeAudit][0].KeyID
	before := f.alarms()

	var done atomic.Bool
	var work sync.WaitGroup
	var served atomic.Int64
	expect := func(what string, err error) {
		switch {
		case err == nil:
			served.Add(1)
		case fault.KindOf(err) != fault.Unavailable:
			t.Errorf("%s: %v", what, err)
		}
	}
	loop := func(fn func(n int)) {
		work.Go(func() {
			for n := 0; !done.Load(); n++ {
				fn(n)
			}
		})
	}
	other := f.other()
	for _, process := range []*fixture{f, other} {
		loop(func(n int) { expect("a read", process.reads(f.admin, fmt.Sprintf("load/%d", n%40))) })
	}
	loop(func(n int) {
		s, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{
			Name: fmt.Sprintf("load/%d", n%40), Description: vault.Optional[string]{Set: true, Value: fmt.Sprint(n)},
		})
		_ = s
		expect("an update", err)
	})
	loop(func(n int) {
		s, err := other.vault.Create(ctx, f.admin, vault.CreateRequest{Name: fmt.Sprintf("new/%d", n), Kind: "manual", Given: text("v")})
		if err == nil {
			s.Release()
		}
		expect("a create", err)
	})
	loop(func(n int) {
		issued, err := f.vault.CreateToken(ctx, f.admin, vault.TokenRequest{Name: fmt.Sprintf("t%d", n), Role: vault.AdminRole})
		if err == nil {
			issued.Release()
		}
		expect("a token", err)
	})
	eventually(t, "everybody is at work", func() bool { return served.Load() > 50 })
	rotated, err := f.rotateKeyring(vault.KeyRotation{Purposes: allButCheckpoint, Batch: 7})
	must(t, err)
	after := served.Load()
	eventually(t, "they go on", func() bool { return served.Load() > after+50 })
	done.Store(true)
	work.Wait()

	if len(rotated.Made) != 3 || len(rotated.Retired) != 1 || rotated.Retired[0] != old || rotated.Secrets < 40 || rotated.Tombstones != 1 {
		t.Errorf("%+v", rotated)
	}
	f.wantRetired(old)
	if n := f.alarms() - before; n != 0 {
		t.Errorf("%v alarms", n)
	}
	for i := range 40 {
		must(t, f.reads(f.admin, fmt.Sprintf("load/%d", i)))
		_, err := other.vault.Versions(ctx, f.admin, fmt.Sprintf("load/%d", i))
		must(t, err)
	}
	eventually(t, "new streams have the new root", func() bool {
		must(t, f.reads(f.admin, "load/1"))
		_, err := f.vault.CreateRole(ctx, f.admin, vault.RoleRequest{Name: "r" + uuid.NewString()})
		must(t, err)
		return pgtest.Query[int64](t, f.db, `SELECT count(*) FROM vault.audit_streams
			WHERE key_id = $1 AND state = 'open' AND kind IN ('read', 'change') AND head_at > now() - interval '1 second'`, oldAudit)[0] == 0
	})
	if report := f.verifyTrail(); len(report.Problems) != 0 {
		t.Errorf("%+v", report.Problems)
	}
	f.finds(true) // nothing: the trail tells of all that the tables hold, their revisions and the epoch as well
	if n := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.audit_log WHERE action IN ('keyring.rotate', 'keyring.retire')")[0]; n != 4 {
		t.Errorf("%d records of the rotation", n)
	}
}

func TestRotation_GoesOnFromWhereverItWasInterrupted(t *testing.T) {
	t.Parallel()
	for _, stop := range []int{1, 2, 4, 6} {
		t.Run(fmt.Sprint(stop), func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			for i := range 12 {
				f.automatic(fmt.Sprintf("s/%d", i), 3600)
			}
			old := f.keys()[integrity.PurposeRow][0].KeyID
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			steps := 0
			_, err := vault.RotateKeyring(ctx, f.open("sealkeep_operator"), f.keeper.Local, vault.KeyRotation{
				Purposes: []integrity.Purpose{integrity.PurposeRow}, Batch: 3, Progress: func(vault.KeyRotated) {
					if steps++; steps == stop {
						cancel()
					}
				},
			}, vault.Config{})
			if err == nil {
				t.Fatal("it was not interrupted")
			}
			if got := f.keys()[integrity.PurposeRow]; len(got) != 2 || got[0].State != vault.KeyVerifies || got[1].State != vault.KeyActive {
				t.Fatalf("keys %+v", got)
			}
			must(t, f.reads(f.admin, "s/1")) // under either root
			must(t, f.reads(f.admin, "s/11"))
			rotated, err := f.rotateKeyring(vault.KeyRotation{Purposes: allButCheckpoint, Resume: stop%4 == 0})
			must(t, err)
			if !rotated.Resumed || len(rotated.Made) != 0 || len(rotated.Retired) != 1 {
				t.Errorf("%+v", rotated)
			}
			f.wantRetired(old)
			for i := range 12 {
				must(t, f.reads(f.admin, fmt.Sprintf("s/%d", i)))
			}
			if _, err := f.rotateKeyring(vault.KeyRotation{Resume: true}); !vault.NothingToResume(err) {
				t.Errorf("resuming again: %v", err)
			}
		})
	}
}

func TestI6_ARowUnderARetiredRootIsRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.automatic("victim", 3600)
	// What somebody makes who knows the old root: here a keyring that was opened before, and forgets nothing.
	leaked, err := vault.OpenKeyring(ctx, f.api, f.keeper.Local, f.vaultID)
	must(t, err)
	t.Cleanup(leaked.Close)
	old := f.keys()[integrity.PurposeRow][0].KeyID
	_, err = f.rotateKeyring(vault.KeyRotation{Purposes: []integrity.Purpose{integrity.PurposeRow}})
	must(t, err)
	must(t, f.reads(f.admin, "victim"))
	must(t, f.keyring.Refresh(ctx))
	f.keepSecrets("kept")

	row := pgtest.Query[integrity.Tombstone](t, f.db, "SELECT id, name, revision + 1, now() FROM vault.secrets")[0]
	mac, keyID, err := leaked.MAC(row)
	must(t, err)
	if keyID != old {
		t.Fatal("the leaked keyring has noticed the rotation, so this proves nothing")
	}
	must(t, leaked.Check(row, mac, &keyID))
	if err := f.keyring.Check(row, mac, &keyID); !errors.Is(err, integrity.ErrRetired) {
		t.Errorf("a row under the retired root: %v", err)
	}
	f.db.Exec(t, `ALTER TABLE vault.secrets DISABLE TRIGGER ALL; DELETE FROM vault.secret_versions; DELETE FROM vault.secrets`)
	f.db.Exec(t, "INSERT INTO vault.deleted_secrets (secret_id, name, revision, deleted_at, mac, key_id) VALUES ($1, $2, $3, $4, $5, $6)",
		row.SecretID, row.Name, row.Revision, row.DeletedAt, mac, keyID)
	before := f.alarms()
	wantKind(t, f.reads(f.admin, "victim"), fault.Internal)
	if f.alarms() != before+1 {
		t.Errorf("%v alarms", f.alarms()-before)
	}

	t.Run("nor does a process take the root back", func(t *testing.T) {
		f.db.Exec(t, "UPDATE vault.keyring SET retired_at = NULL WHERE key_id = $1", old)
		if err := f.keyring.Refresh(ctx); err == nil {
			t.Error("a root that was retired is back")
		}
		if err := f.keyring.Check(row, mac, &keyID); !errors.Is(err, integrity.ErrRetired) {
			t.Errorf("a row under it: %v", err)
		}
	})
}

func TestI6_AMadeUpKeyIDIsRefusedWithoutAStormOfLooks(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("victim", "v")
	f.put("other", "v")
	f.db.Exec(t, "UPDATE vault.secrets SET key_id = gen_random_uuid() WHERE name = 'victim'")
	f.keeper.takeDecrypts()
	before, looks := f.alarms(), f.keyring.Looks()
	var readers sync.WaitGroup
	for range 50 {
		readers.Go(func() {
			if err := f.reads(f.admin, "victim"); fault.KindOf(err) != fault.Internal {
				t.Errorf("a read: %v", err)
			}
		})
	}
	must(t, f.reads(f.admin, "other"))
	readers.Wait()
	if n := f.alarms() - before; n != 50 {
		t.Errorf("%v alarms of 50 reads", n)
	}
	// All who wait share a look: one that is under way when they come, and the next.
	if n := f.keyring.Looks() - looks; n < 1 || n > 5 {
		t.Errorf("%d looks at the keyring for 50 reads", n)
	}
	if n := f.keeper.takeDecrypts(); n > 1 {
		t.Errorf("%d keys were unwrapped, and the read of the other secret takes one", n)
	}
}

func TestRotation_VouchesForNothingThatDoesNotVerify(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"a longer grace": "UPDATE vault.secret_versions SET expires_at = expires_at + interval '1 year' WHERE state = 'superseded'",
		"a description":  "UPDATE vault.secrets SET description = 'x'",
		"a ciphertext":   "UPDATE vault.secret_versions SET ciphertext = ciphertext || 'x' WHERE state = 'superseded'",
		"a version less": "DELETE FROM vault.secret_versions WHERE state = 'superseded'",
		"a token":        "UPDATE vault.admin_tokens SET expires_at = now() + interval '1 year'",
		"a tombstone":    "UPDATE vault.deleted_secrets SET revision = 99",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			ctx := context.Background()
			f.automatic("victim", 3600)
			s, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "victim"})
			must(t, err)
			s.Release()
			f.put("gone", "x")
			must(t, f.vault.Delete(ctx, f.admin, "gone", vault.Precondition{}))
			old := f.keys()[integrity.PurposeRow][0].KeyID
			f.db.Exec(t, sql)
			_, err = f.rotateKeyring(vault.KeyRotation{Purposes: allButCheckpoint})
			if !vault.Unverifiable(err) {
				t.Fatalf("error %v", err)
			}
			want := "victim"
			switch {
			case strings.Contains(sql, "deleted"):
				want = "gone"
			case strings.Contains(sql, "tokens"):
				want = "bootstrap"
			}
			if !strings.Contains(err.Error(), want) {
				t.Errorf("it doesn't name %s: %v", want, err)
			}
			for _, k := range f.keys()[integrity.PurposeRow] {
				if k.KeyID == old && k.State == vault.KeyRetired {
					t.Error("the old root was retired")
				}
			}
			if f.named(old) == 0 {
				t.Error("no row names the old root")
			}
		})
	}
}

// Who brings no token has nobody look at the grants, which would have told of the new root.
func TestRotation_IsLearntOfFromTheRowsAlone(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *vault.Config) { c.ReadAuth = vault.ReadAuthIP })
	f.put("read", "v")
	anonymous := vault.Caller{Address: f.admin.Address, RequestID: "anonymous"}
	must(t, f.reads(anonymous, "read"))
	_, err := f.rotateKeyring(vault.KeyRotation{Purposes: []integrity.Purpose{integrity.PurposeRow}})
	must(t, err)
	must(t, f.reads(anonymous, "read"))
	if n := f.alarms(); n != 0 {
		t.Errorf("%v alarms", n)
	}
}
