package vault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// grantTables are those that hold grants, so that a child comes after its parent.
var grantTables = []string{"authz_state", "roles", "role_permissions", "admin_tokens"}

// keepGrants copies the grants' tables as they are now under a name.
func (f *fixture) keepGrants(as string) {
	f.t.Helper()
	for _, table := range grantTables {
		f.db.Exec(f.t, fmt.Sprintf("CREATE TABLE public.%s_%s AS SELECT * FROM vault.%[2]s", as, table))
	}
}

// putBackGrants makes the grants' tables what they were.
func (f *fixture) putBackGrants(as string) {
	f.t.Helper()
	sql := "BEGIN; SET LOCAL session_replication_role = replica;"
	for _, table := range grantTables {
		sql += fmt.Sprintf("DELETE FROM vault.%s; INSERT INTO vault.%[1]s SELECT * FROM public.%s_%[1]s;", table, as)
	}
	f.db.Exec(f.t, sql+"COMMIT")
}

// alarms counts the integrity alarms so far.
func (f *fixture) alarms() float64 {
	f.t.Helper()
	families, err := f.metrics.Gather()
	must(f.t, err)
	total := 0.0
	for _, family := range families {
		if family.GetName() == "sealkeep_vault_integrity_failures_total" {
			for _, m := range family.GetMetric() {
				total += m.GetCounter().GetValue()
			}
		}
	}
	return total
}

func (f *fixture) reads(c vault.Caller, name string) error {
	s, err := f.vault.Read(context.Background(), c, vault.ReadRequest{Name: name})
	s.Release()
	return err
}

// newToken makes a well-formed token that no vault knows.
func newToken(t testing.TB) (sensitive.Bytes, access.Fingerprint) {
	t.Helper()
	token, fingerprint, err := access.NewToken(nil)
	must(t, err)
	t.Cleanup(token.Release)
	return token, fingerprint
}

func TestI6_GrantsCountOnlyAsTheVaultMadeThem(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("s", "x")
	reader := f.token("reader", access.Permission{Action: access.Read, Path: "s"})
	former := f.token("former", access.Permission{Action: access.Read, Path: "s"})
	must(t, f.vault.RevokeToken(context.Background(), f.admin, "former"))
	token, fingerprint := newToken(t)
	intruder := reader
	intruder.Token = token
	must(t, f.reads(reader, "s"))
	f.keepGrants("kept")

	const role = "(SELECT id FROM vault.roles WHERE name = 'reader')"
	const admin = "(SELECT id FROM vault.roles WHERE name = 'admin')"
	add := fmt.Sprintf(`INSERT INTO vault.admin_tokens (id, name, role_id, token_sha256, created_at, mac, key_id)
		SELECT gen_random_uuid(), 'intruder', %s, '\x%x', created_at, `, admin, fingerprint[:])
	for name, sql := range map[string]string{
		"a token is added, without a mac":            add + "NULL, NULL FROM vault.admin_tokens WHERE name = 'bootstrap'",
		"a token is added with another's mac":        add + "mac, key_id FROM vault.admin_tokens WHERE name = 'bootstrap'",
		"a token is added under a key of no keyring": add + "mac, gen_random_uuid() FROM vault.admin_tokens WHERE name = 'bootstrap'",
		"a token gets another fingerprint":           fmt.Sprintf(`UPDATE vault.admin_tokens SET token_sha256 = '\x%x' WHERE name = 'bootstrap'`, fingerprint[:]),
		"a token moves to the role admin":            "UPDATE vault.admin_tokens SET role_id = " + admin + " WHERE name = 'reader'",
		"a token is no longer revoked":               "UPDATE vault.admin_tokens SET revoked_at = NULL WHERE name = 'former'",
		"a token gets an expiry that never comes":    "UPDATE vault.admin_tokens SET expires_at = 'infinity' WHERE name = 'former'",
		"a revoked token's row is gone":              "DELETE FROM vault.admin_tokens WHERE name = 'former'",
		"a role becomes an admin's":                  "UPDATE vault.roles SET is_admin = true WHERE name = 'reader'",
		"a permission is added":                      "INSERT INTO vault.role_permissions SELECT role_id, 'delete', path, mac, key_id FROM vault.role_permissions WHERE role_id = " + role,
		"a permission is wider":                      "UPDATE vault.role_permissions SET action = '*', path = '*' WHERE role_id = " + role,
		"a permission is gone":                       "DELETE FROM vault.role_permissions WHERE role_id = " + role,
		"two macs change places": `UPDATE vault.admin_tokens t SET mac = o.mac FROM vault.admin_tokens o
			WHERE (t.name, o.name) IN (('reader', 'bootstrap'), ('bootstrap', 'reader'))`,
		"no mac is left": "UPDATE vault.admin_tokens SET mac = NULL, key_id = NULL",
	} {
		t.Run(name, func(t *testing.T) {
			before := f.alarms()
			f.db.Exec(t, sql)
			// What this process holds decides.
			wantKind(t, f.reads(intruder, "s"), fault.Unauthenticated)
			wantKind(t, f.reads(former, "s"), fault.Unauthenticated)
			must(t, f.reads(reader, "s"))
			wantKind(t, f.vault.Delete(context.Background(), reader, "s", vault.Precondition{}), fault.Denied)
			_, err := f.vault.Tokens(context.Background(), f.admin)
			wantKind(t, err, fault.Internal)
			_, err = f.vault.Roles(context.Background(), f.admin)
			wantKind(t, err, fault.Internal)
			if f.alarms() == before {
				t.Error("there was no alarm")
			}
			// A process that comes to it now has nothing that it could hold.
			cold := f.other()
			for _, c := range []vault.Caller{intruder, former, reader, f.admin} {
				wantKind(t, cold.reads(c, "s"), fault.Unavailable)
			}
			if cold.alarms() == 0 {
				t.Error("there was no alarm in the other process")
			}
			f.putBackGrants("kept")
			must(t, cold.reads(reader, "s"))
			_, err = f.vault.Tokens(context.Background(), f.admin)
			must(t, err)
		})
	}
	if n := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.audit_log WHERE action = 'grants.check' AND outcome = 'unverifiable'")[0]; n == 0 {
		t.Error("no record tells of it")
	}
}

func TestI6_ATokenThatWasTamperedWithIsNoticedWithoutAnyoneUsingIt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("s", "x")
	f.db.Exec(t, "UPDATE vault.roles SET description = 'edited' WHERE name = 'admin'")
	eventually(t, "requests of others notice it", func() bool {
		must(t, f.reads(f.admin, "s"))
		return f.alarms() > 0
	})
}

func TestI6_AChangeNeverVouchesForWhatSomebodyPutThere(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.token("reader", access.Permission{Action: access.Read, Path: "s"})
	_, err := f.vault.Roles(ctx, f.admin)
	must(t, err)
	f.keepGrants("kept")
	for name, sql := range map[string]string{
		"a role":       "INSERT INTO vault.roles (id, name, is_admin, mac, key_id) SELECT gen_random_uuid(), 'intruders', true, mac, key_id FROM vault.roles LIMIT 1",
		"a permission": "INSERT INTO vault.role_permissions SELECT role_id, 'delete', path, mac, key_id FROM vault.role_permissions",
		"an edit":      "UPDATE vault.roles SET is_admin = true WHERE name = 'reader'",
		"a token gone": "DELETE FROM vault.admin_tokens WHERE name = 'reader'",
		"no state mac": "UPDATE vault.authz_state SET mac = NULL",
	} {
		t.Run(name, func(t *testing.T) {
			f.db.Exec(t, sql)
			epoch := pgtest.Query[int64](t, f.db, "SELECT epoch FROM vault.authz_state")[0]
			before := f.alarms()
			_, err := f.vault.CreateRole(ctx, f.as("launder "+name), vault.RoleRequest{Name: "honest"})
			wantKind(t, err, fault.Internal)
			if got := f.outcomes("launder " + name); len(got) != 1 || got[0] != "role.create unverifiable" {
				t.Errorf("records %q", got)
			}
			if f.alarms() == before {
				t.Error("there was no alarm")
			}
			if now := pgtest.Query[int64](t, f.db, "SELECT epoch FROM vault.authz_state")[0]; now != epoch {
				t.Errorf("the epoch moved from %d to %d", epoch, now)
			}
			f.putBackGrants("kept")
		})
	}
	_, err = f.vault.CreateRole(ctx, f.admin, vault.RoleRequest{Name: "honest"})
	must(t, err)
}

func TestI6_OlderGrantsThatArePutBackWholeAreRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("s", "x")
	reader := f.token("reader", access.Permission{Action: access.Read, Path: "s"})
	must(t, f.reads(reader, "s"))
	f.keepGrants("before")
	must(t, f.vault.RevokeToken(context.Background(), f.admin, "reader"))
	wantKind(t, f.reads(reader, "s"), fault.Unauthenticated)
	f.keepGrants("after")

	f.putBackGrants("before")
	wantKind(t, f.reads(reader, "s"), fault.Unavailable)
	wantKind(t, f.reads(f.admin, "s"), fault.Unavailable)
	if log := f.log.String(); f.alarms() == 0 || !strings.Contains(log, "the grants' epoch went back") {
		t.Errorf("%v alarms, and a log without the reason", f.alarms())
	}
	f.putBackGrants("after")
	must(t, f.reads(f.admin, "s"))
	wantKind(t, f.reads(reader, "s"), fault.Unauthenticated)
}

func TestI6_AnotherLineOfGrantsUnderTheSameEpochIsRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("s", "x")
	reader := f.token("reader", access.Permission{Action: access.Read, Path: "s"})
	f.keepGrants("before")
	must(t, f.vault.RevokeToken(context.Background(), f.admin, "reader"))
	must(t, f.reads(f.admin, "s"))
	f.keepGrants("after")
	f.putBackGrants("before")
	_, err := f.other().vault.CreateRole(context.Background(), f.admin, vault.RoleRequest{Name: "elsewhere"})
	must(t, err) // which knows nothing of the revocation
	eventually(t, "it is noticed here", func() bool { return f.reads(f.admin, "s") != nil })
	wantKind(t, f.reads(reader, "s"), fault.Unavailable)
	if !strings.Contains(f.log.String(), "other grants than before bear the same epoch") {
		t.Error("the log doesn't say why")
	}
}

func TestI6_ARevocationReachesOtherProcessesWithItsAnswer(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("s", "x")
	other := f.other()
	for i := range 20 {
		name := fmt.Sprintf("worker-%d", i)
		c := f.token(name, access.Permission{Action: access.Read, Path: "s"})
		must(t, other.reads(c, "s"))
		must(t, f.vault.RevokeToken(context.Background(), f.admin, name))
		wantKind(t, other.reads(c, "s"), fault.Unauthenticated) // at once, well within a second
	}
}

func TestI4_ReadsByAddressNeedNoGrants(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *vault.Config) { c.ReadAuth = vault.ReadAuthIP })
	f.put("s", "x")
	f.db.Exec(t, "UPDATE vault.authz_state SET mac = NULL")
	cold := f.other()
	must(t, cold.reads(vault.Caller{Address: f.admin.Address, RequestID: "r"}, "s"))
	wantKind(t, cold.reads(f.admin, "s"), fault.Unavailable) // who this is can't be told
}

func TestI6_RecoveryFromGrantsThatDontVerifyIsAskedForByName(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	operator := f.open("sealkeep_operator")
	f.put("s", "x")
	f.token("reader", access.Permission{Action: access.Read, Path: "s"})
	f.db.Exec(t, "UPDATE vault.roles SET is_admin = true")
	_, err := vault.RecoverToken(ctx, operator, f.keeper, vault.Recovery{Name: "rescue"}, vault.Config{})
	wantCode(t, err, "unverifiable")
	if !strings.Contains(fault.Message(err), "--discard-grants") {
		t.Errorf("it says %q", fault.Message(err))
	}
	issued, err := vault.RecoverToken(ctx, operator, f.keeper, vault.Recovery{Name: "rescue", DiscardGrants: true}, vault.Config{})
	must(t, err)
	t.Cleanup(issued.Release)
	c := f.admin
	c.Token = issued.Token
	tokens, err := f.vault.Tokens(ctx, c)
	must(t, err)
	if len(tokens) != 1 || tokens[0].Name != "rescue" {
		t.Errorf("tokens %+v", tokens)
	}
	wantKind(t, f.reads(f.admin, "s"), fault.Unauthenticated)
	if report := f.verifyTrail(); len(report.Problems) > 0 {
		t.Errorf("%+v", report.Problems)
	}
}

func TestI6_AKeyringThatWasEditedDoesNotOpen(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.db.Exec(t, "CREATE TABLE public.kept AS SELECT * FROM vault.keyring")
	open := func() error {
		keys, err := vault.OpenKeyring(context.Background(), f.api, f.keeper, f.vaultID)
		if err == nil {
			keys.Close()
		}
		return err
	}
	must(t, open())
	for column, edit := range map[string]string{
		"purpose": "CASE purpose WHEN 'idempotency' THEN 'checkpoint' ELSE purpose END", "created_at": "created_at - interval '1 day'",
		"retired_at": "CASE purpose WHEN 'idempotency' THEN now() END", "public_key": "CASE WHEN public_key IS NOT NULL THEN set_byte(public_key, 0, get_byte(public_key, 0) # 1) END",
		"kms_key_id": "'local:0000000000000000'", "wrapped_key": "set_byte(wrapped_key, 30, get_byte(wrapped_key, 30) # 1)",
		"mac": "NULL", "mac_key_id": "NULL",
	} {
		f.db.Exec(t, fmt.Sprintf("UPDATE vault.keyring SET %s = %s", column, edit))
		if open() == nil {
			t.Errorf("it opens with another %s", column)
		}
		f.db.Exec(t, "UPDATE vault.keyring k SET purpose = o.purpose, created_at = o.created_at, retired_at = o.retired_at, public_key = o.public_key, "+
			"kms_key_id = o.kms_key_id, wrapped_key = o.wrapped_key, mac = o.mac, mac_key_id = o.mac_key_id FROM public.kept o WHERE o.key_id = k.key_id")
	}
	must(t, open())
}

func TestI6_AVaultFromBeforeMACsIsRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.db.Exec(t, "UPDATE vault.authz_state SET mac = NULL, key_id = NULL")
	_, _, err := vault.LoadIdentity(context.Background(), f.api)
	var known *fault.Error
	if !errors.As(err, &known) || !strings.Contains(known.Message, "start anew") {
		t.Errorf("error %v", err)
	}
}
