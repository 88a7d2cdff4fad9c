package vault_test

import (
	"context"
	"testing"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// An older state that was put back under a process that doesn't know better, and written on, is nowhere in the tables: what is there is as
// new as the trail says. The trail tells of two changes that made the same revision, or the same epoch.
func TestI6_AnOlderStateThatWasWrittenOnIsFoundInTheTrail(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("once", "x")
	f.put("twice", "x")
	f.put("often", "x")
	f.token("ops", access.Permission{Action: access.Read, Path: "a/*"})
	f.keepSecrets("old")
	f.keepGrants("old")
	describe := func(p *fixture, name string, times int) {
		t.Helper()
		for range times {
			must(t, p.describe(name))
		}
	}
	describe(f, "twice", 1)
	describe(f, "often", 4)
	permit := func(p *fixture, path access.Pattern) {
		t.Helper()
		_, err := p.vault.SetRolePermissions(context.Background(), p.admin, "ops", []access.Permission{{Action: access.Read, Path: path}})
		must(t, err)
	}
	permit(f, "b/*")
	f.finds(true)

	f.putBackSecrets("old")
	f.putBackGrants("old")
	unknowing := f.other()
	describe(unknowing, "once", 2)
	describe(unknowing, "twice", 1)
	describe(unknowing, "often", 5)
	permit(unknowing, "c/*")
	permit(unknowing, "d/*")
	f.finds(false)
	f.finds(true,
		`secrets: secret "twice": revision 2 was made twice: an older state was put back and written on`,
		`secrets: secret "often": revisions 2 to 5 were made twice: an older state was put back and written on`,
		"grants: epoch 4 was made twice: older grants were put back and changed")
}

// All that makes revisions and epochs makes each once.
func TestI6_NothingIsMadeTwiceByAnHonestVault(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	recovery := newKeeper(t)
	f.automatic("auto", 3600)
	f.put("s", "one")
	f.put("gone", "x")
	other := f.other()
	for range 3 {
		for _, p := range []*fixture{f, other} {
			must(t, p.describe("s"))
			for _, value := range []string{"next", "next"} { // the second one is unchanged, and makes a revision all the same
				_, err := p.vault.Update(ctx, p.admin, vault.UpdateRequest{Name: "s", Given: text(value)})
				must(t, err)
			}
			s, err := p.vault.Rotate(ctx, p.admin, vault.RotateRequest{Name: "auto"})
			must(t, err)
			s.Release()
		}
	}
	must(t, f.vault.Delete(ctx, f.admin, "gone", vault.Precondition{}))
	f.put("gone", "another")
	filling, _ := f.rewraps(recovery)
	did, err := filling.Rewrap(ctx)
	must(t, err)
	if did.Done == 0 {
		t.Error("nothing was wrapped again, so this proves less than it says")
	}
	for _, name := range []string{"a", "b"} {
		f.token(name, access.Permission{Action: access.Read, Path: "*"})
		must(t, f.vault.RevokeToken(ctx, f.admin, name))
		must(t, f.vault.RevokeToken(ctx, f.admin, name)) // makes an epoch, too
	}
	must(t, f.vault.DeleteRole(ctx, f.admin, "a"))
	for range 2 {
		_, err := f.rotateKeyring(vault.KeyRotation{Purposes: []integrity.Purpose{integrity.PurposeRow, integrity.PurposeAudit, integrity.PurposeIdempotency}})
		must(t, err)
	}
	must(t, other.describe("s"))
	operator := f.open("sealkeep_operator")
	for name, discard := range map[string]bool{"spare": false, "first": true, "second": true, "third": false} {
		token, err := vault.RecoverToken(ctx, operator, f.keeper.Local, vault.Recovery{Name: name, DiscardGrants: discard}, vault.Config{})
		must(t, err)
		token.Release()
	}
	f.finds(true)
}
