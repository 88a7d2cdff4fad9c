package vault_test

import (
	"context"
	"testing"

	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func TestFill_MakesTheRootsOutliveThePrimaryKey(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	operator := f.open("sealkeep_operator")
	recovery := newKeeper(t)
	both, err := kms.NewRecoverable(f.keeper.Local, recovery, kms.RecoveryConfig{})
	must(t, err)
	alone, err := kms.NewRecoverable(f.keeper.Local, recovery, kms.RecoveryConfig{UseRecovery: true})
	must(t, err)
	if _, err := vault.OpenKeyring(ctx, f.api, alone, f.vaultID, integrity.Purposes()...); err == nil {
		t.Fatal("the recovery key opens roots that it never wrapped")
	}
	lacking := func() int {
		n, err := vault.RootsLacking(ctx, f.api, both)
		must(t, err)
		return n
	}
	if n := lacking(); n != 4 {
		t.Errorf("%d roots lack a wrapping", n)
	}
	n, err := vault.FillKeyring(ctx, operator, both, both)
	must(t, err)
	if n != 4 || lacking() != 0 {
		t.Errorf("%d roots were filled, %d still lack a wrapping", n, lacking())
	}
	keys, err := vault.OpenKeyring(ctx, f.api, alone, f.vaultID, integrity.Purposes()...)
	must(t, err)
	keys.Close()
	must(t, f.keyring.Refresh(ctx)) // a process that runs takes no offence
	if n := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.audit_log WHERE action = 'keyring.fill'")[0]; n != 4 {
		t.Errorf("%d records", n)
	}
	if n, err = vault.FillKeyring(ctx, operator, both, both); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	if report := f.verifyTrail(); len(report.Problems) != 0 {
		t.Errorf("%+v", report.Problems)
	}
}
