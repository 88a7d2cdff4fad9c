package vault_test

import (
	"context"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func TestHousekeepingStartsAndStopsSafely(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	must(t, f.vault.Start(ctx))
	must(t, f.vault.Stop(ctx))
	must(t, f.vault.Stop(ctx))
	if f.vault.Start(ctx) == nil {
		t.Error("a stopped one started again")
	}
	unstarted, err := vault.New(f.api, f.trail, f.keeper, f.keyring, vault.Config{})
	must(t, err)
	must(t, unstarted.Stop(ctx))
}

func TestTokenUsesAreWrittenDown(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.put("s", "x")
	must(t, f.vault.Stop(ctx)) // writes what is left
	used := pgtest.Query[int64](t, f.db,
		"SELECT count(*) FROM vault.token_uses u JOIN vault.admin_tokens t ON t.id = u.token_id WHERE t.name = 'bootstrap' AND u.last_used_at <= now()")
	if used[0] != 1 {
		t.Errorf("%d uses were written down", used[0])
	}
	tokens, err := f.other().vault.Tokens(ctx, f.admin)
	must(t, err)
	if tokens[0].LastUsedAt == nil {
		t.Error("the list doesn't tell when the token was last used")
	}
}

func TestPartitionsAheadAreThoseThatCouldBeMade(t *testing.T) {
	t.Parallel()
	f := setup(t)
	eventually(t, "partitions are made", func() bool { return ahead(t, f) >= 7 }) // the eighth day is no longer whole
	status, err := f.vault.Status(context.Background(), f.admin)
	must(t, err)
	if status.Audit.PartitionsAhead < 7 {
		t.Errorf("status says %d days", status.Audit.PartitionsAhead)
	}
}

func ahead(t *testing.T, f *fixture) float64 {
	t.Helper()
	families, err := f.metrics.Gather()
	must(t, err)
	for _, family := range families {
		if family.GetName() == "sealkeep_vault_audit_partitions_ahead_days" {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return -1
}

func TestPartitionsThatCannotBeMadeAreAlarmed(t *testing.T) {
	t.Parallel()
	// The function is gone for this vault from the start, so no partition is ever known to be there.
	db := pgtest.New(t)
	db.Exec(t, "REVOKE EXECUTE ON FUNCTION vault.ensure_audit_partitions(integer) FROM vault_api")
	f := setupOn(t, db)
	eventually(t, "the failure is logged", func() bool { return strings.Contains(f.log.String(), "audit partitions could not be made") })
	if got := ahead(t, f); got != 0 {
		t.Errorf("%v days ahead although none could be made", got)
	}
}
