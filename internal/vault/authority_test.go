package vault_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func TestTokensWorkUntilTheyAreRevokedOrExpire(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.put("s", "x")
	c := f.token("worker", access.Permission{Action: access.Read, Path: "*"})
	read := func() error {
		s, err := f.vault.Read(ctx, c, vault.ReadRequest{Name: "s"})
		s.Release()
		return err
	}
	must(t, read())
	f.made("UPDATE vault.admin_tokens SET expires_at = now() WHERE name = 'worker'")
	wantKind(t, read(), fault.Unauthenticated)
	f.made("UPDATE vault.admin_tokens SET expires_at = NULL WHERE name = 'worker'")
	must(t, read())
	must(t, f.vault.RevokeToken(ctx, f.admin, "worker"))
	wantKind(t, read(), fault.Unauthenticated)
	if epoch := pgtest.Query[int64](t, f.db, "SELECT epoch FROM vault.authz_state")[0]; epoch != 6 {
		t.Errorf("the epoch is %d: a role, a token, two edits and a revocation should have raised it to 6", epoch)
	}

	t.Run("a revoked token's name is free again", func(t *testing.T) {
		issued, err := f.vault.CreateToken(ctx, f.admin, vault.TokenRequest{Name: "worker", Role: "worker"})
		must(t, err)
		issued.Release()
		_, err = f.vault.CreateToken(ctx, f.admin, vault.TokenRequest{Name: "worker", Role: "worker"})
		wantCode(t, err, "already_exists")
		wantKind(t, read(), fault.Unauthenticated)
	})
	t.Run("expiry is bounded", func(t *testing.T) {
		for _, secs := range []int64{0, -1, 1 << 40} {
			_, err := f.vault.CreateToken(ctx, f.admin, vault.TokenRequest{Name: "odd", Role: "worker", ExpiresInSecs: &secs})
			wantKind(t, err, fault.Invalid)
		}
	})
	t.Run("the last live admin token stays", func(t *testing.T) {
		wantCode(t, f.vault.RevokeToken(ctx, f.admin, "bootstrap"), "last_admin_token")
		issued, err := f.vault.CreateToken(ctx, f.admin, vault.TokenRequest{Name: "second", Role: vault.AdminRole})
		must(t, err)
		issued.Release()
		must(t, f.vault.RevokeToken(ctx, f.admin, "bootstrap"))
	})
}

func TestRolesAreHeldByTheirTokens(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.put("s", "x")
	c := f.token("team", access.Permission{Action: access.Read, Path: "s"})
	wantCode(t, f.vault.DeleteRole(ctx, f.admin, "team"), "in_use")
	wantKind(t, f.vault.DeleteRole(ctx, f.admin, vault.AdminRole), fault.Invalid)
	_, err := f.vault.SetRolePermissions(ctx, f.admin, vault.AdminRole, nil)
	wantKind(t, err, fault.Invalid)

	t.Run("new permissions take effect at once", func(t *testing.T) {
		_, err := f.vault.SetRolePermissions(ctx, f.admin, "team", []access.Permission{{Action: access.Update, Path: "s"}})
		must(t, err)
		_, err = f.vault.Read(ctx, c, vault.ReadRequest{Name: "s"})
		wantKind(t, err, fault.Denied)
		role, err := f.vault.Role(ctx, f.admin, "team")
		must(t, err)
		if !slices.Equal(role.Permissions, []access.Permission{{Action: access.Update, Path: "s"}}) {
			t.Errorf("permissions %v", role.Permissions)
		}
	})
	t.Run("a role goes with its dead tokens", func(t *testing.T) {
		must(t, f.vault.RevokeToken(ctx, f.admin, "team"))
		must(t, f.vault.DeleteRole(ctx, f.admin, "team"))
		_, err := f.vault.Role(ctx, f.admin, "team")
		wantKind(t, err, fault.NotFound)
	})
	t.Run("as many permissions as a role may have fit into the record", func(t *testing.T) {
		var many []access.Permission
		for i := range vault.MaxPermissions {
			many = append(many, access.Permission{Action: access.Rotate, Path: access.Pattern(fmt.Sprintf("%03d-%s", i, strings.Repeat("x", access.MaxPatternBytes-4)))})
		}
		_, err := f.vault.CreateRole(ctx, f.as("many"), vault.RoleRequest{Name: "many", Permissions: many})
		must(t, err)
		detail := pgtest.Query[string](t, f.db, "SELECT convert_from(detail, 'UTF8') FROM vault.audit_log WHERE request_id = 'many'")
		if len(detail) != 1 || !strings.Contains(detail[0], string(many[len(many)-1].Path)) || !strings.Contains(detail[0], `"role":"many"`) {
			t.Errorf("%d records, not with all permissions", len(detail))
		}
		_, err = f.vault.CreateRole(ctx, f.admin, vault.RoleRequest{Name: "more", Permissions: append(many, access.Permission{Action: access.Read, Path: "*"})})
		wantKind(t, err, fault.Invalid)
	})
	t.Run("odd permissions are refused", func(t *testing.T) {
		for _, p := range []access.Permission{{Action: "fly", Path: "*"}, {Action: access.Read, Path: "a*b"}, {Action: access.Read, Path: ""}} {
			_, err := f.vault.CreateRole(ctx, f.admin, vault.RoleRequest{Name: "odd", Permissions: []access.Permission{p}})
			wantKind(t, err, fault.Invalid)
		}
	})
}

func TestInitWorksOnceAndOnlyOnAnEmptyVault(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	operator := f.open("sealkeep_operator")
	_, err := vault.Init(ctx, operator, f.keeper, sensitive.Bytes{}, vault.Config{})
	wantCode(t, err, "already_initialised")
	f.db.Exec(t, "DELETE FROM vault.authz_state")
	_, err = vault.Init(ctx, operator, f.keeper, sensitive.Bytes{}, vault.Config{})
	wantCode(t, err, "not_empty")
}

func TestInitTakesABootstrapTokenOfOurForm(t *testing.T) {
	t.Parallel()
	f := &fixture{t: t, db: pgtest.New(t)}
	operator := f.open("sealkeep_operator")
	keeper := newKeeper(t)
	_, err := vault.Init(context.Background(), operator, keeper, sensitive.CopyString("hunter2"), vault.Config{})
	wantKind(t, err, fault.Invalid)
	token, fingerprint, err := access.NewToken(nil2random{})
	must(t, err)
	issued, err := vault.Init(context.Background(), operator, keeper, token, vault.Config{})
	must(t, err)
	issued.Release()
	stored := pgtest.Query[[]byte](t, f.db, "SELECT token_sha256 FROM vault.admin_tokens")
	if len(stored) != 1 || string(stored[0]) != string(fingerprint[:]) {
		t.Error("the bootstrap token isn't the stored one")
	}
}

func TestRecoverNeedsTheKeeperAndIsRecorded(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	operator := f.open("sealkeep_operator")
	_, err := vault.RecoverToken(ctx, operator, newKeeper(t), vault.Recovery{Name: "rescue"}, vault.Config{})
	if err == nil {
		t.Fatal("another master key recovered a token")
	}
	issued, err := vault.RecoverToken(ctx, operator, f.keeper, vault.Recovery{Name: "rescue"}, vault.Config{})
	must(t, err)
	defer issued.Release()
	c := f.admin
	c.Token = issued.Token
	_, err = f.vault.Status(ctx, c)
	must(t, err)
	_, err = vault.RecoverToken(ctx, operator, f.keeper, vault.Recovery{Name: "rescue"}, vault.Config{})
	wantCode(t, err, "already_exists")
	if n := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.audit_log WHERE action = 'token.recover'")[0]; n != 1 {
		t.Errorf("%d records of the recovery", n)
	}
	if report := f.verifyTrail(); len(report.Problems) > 0 {
		t.Errorf("%+v", report.Problems)
	}
	t.Run("a dead token's name is free again", func(t *testing.T) {
		must(t, f.vault.RevokeToken(ctx, f.admin, "rescue"))
		again, err := vault.RecoverToken(ctx, operator, f.keeper, vault.Recovery{Name: "rescue"}, vault.Config{})
		must(t, err)
		again.Release()
	})
}

func TestStatusAndEventsTellWhatHappened(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.put("seen", "x")
	status, err := f.vault.Status(ctx, f.admin)
	must(t, err)
	if status.Secrets != 1 || status.Versions != 1 || !status.Audit.Ready || status.VaultID != f.vaultID || status.Database.Synchronous {
		t.Errorf("%+v", status)
	}
	events, err := f.vault.Events(ctx, f.admin, vault.EventsRequest{})
	must(t, err)
	if !slices.ContainsFunc(events, func(e vault.Event) bool { return e.Action == vault.ActionCreate && e.SecretName == "seen" }) {
		t.Errorf("%d events, none of the creation", len(events))
	}
	if !slices.IsSortedFunc(events, func(a, b vault.Event) int { return b.At.Compare(a.At) }) {
		t.Error("events aren't newest first")
	}
}
