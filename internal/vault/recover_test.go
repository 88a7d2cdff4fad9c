package vault_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// Somebody makes the grants unreadable and their epoch that of the first day, so that a recovery begins to count anew and true grants of
// before can be put back as later ones.
func TestI6_ARecoveryTakesNothingOverFromGrantsThatDontVerify(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.put("s", "x")
	reader := f.token("reader", access.Permission{Action: access.Read, Path: "s"})
	must(t, f.reads(reader, "s"))
	f.keepGrants("before")
	f.db.Exec(t, `UPDATE vault.authz_state SET epoch = 1;
		ALTER TABLE vault.admin_tokens ALTER COLUMN name DROP NOT NULL; UPDATE vault.admin_tokens SET name = NULL;
		ALTER TABLE vault.role_permissions DROP CONSTRAINT role_permissions_pkey; ALTER TABLE vault.role_permissions ALTER COLUMN action DROP NOT NULL;
		UPDATE vault.role_permissions SET action = NULL`)
	issued, err := vault.RecoverToken(ctx, f.open("sealkeep_operator"), f.keeper, vault.Recovery{Name: "rescue", DiscardGrants: true}, vault.Config{})
	must(t, err)
	t.Cleanup(issued.Release)
	rescue := f.admin
	rescue.Token = issued.Token

	later := f.other() // which has seen none of the grants before
	for who, p := range map[string]*fixture{"a process that knew the former grants": f, "one that didn't": later} {
		if err := p.reads(rescue, "s"); err != nil {
			t.Fatalf("%s refuses the recovered token: %v", who, err)
		}
	}
	_, err = later.vault.CreateRole(ctx, rescue, vault.RoleRequest{Name: "after"})
	must(t, err)
	if got := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.admin_tokens")[0]; got != 1 {
		t.Errorf("%d tokens are left", got)
	}

	f.putBackGrants("before")
	for who, p := range map[string]*fixture{"a process that knew the former grants": f, "one that didn't": later} {
		if err := p.reads(reader, "s"); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: a token of before: %v", who, err)
		}
		if p.alarms() == 0 {
			t.Errorf("%s: nobody is told", who)
		}
	}
}

// Whoever stops a process decides how long that may take.
func TestStop_WaitsForNoLookAtTheGrantsPastItsTime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	other := f.other()
	conn, err := pgx.Connect(ctx, f.db.URL(pgtest.Superuser))
	must(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "BEGIN; LOCK TABLE vault.authz_state")
	must(t, err)
	unknown := f.admin
	token, _ := newToken(t)
	unknown.Token = token
	asked := make(chan error)
	go func() { asked <- other.reads(unknown, "s") }()
	eventually(t, "a look waits", func() bool {
		// The trail's rounds wait for the table, too.
		return pgtest.Query[int64](t, f.db, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND (query LIKE '%AuthzState :one%' OR query LIKE 'SELECT epoch, (%')`)[0] > 0
	})
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := other.vault.Stop(over); err == nil {
		t.Error("it waited for the look to end")
	}
	_, err = conn.Exec(ctx, "ROLLBACK")
	must(t, err)
	if err := <-asked; err == nil {
		t.Error("an unknown token reads")
	}
}
