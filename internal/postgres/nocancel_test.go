package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// A commit that waits for a standby which isn't there is given up by us, and must go on waiting on the server: with a cancel
// request it would become a local commit that no standby has.
func TestI13_GivingUpASilentCommitDoesNotCancelIt(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t, nil)
	ctx := context.Background()
	database, err := postgres.Open(ctx, postgres.Config{
		ConnString: server.URL("sealkeep_api"), Process: "silent", SilenceLimit: 300 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	server.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = 'nowhere'")
	server.Exec(t, "SELECT pg_reload_conf()")
	waiting := func() int64 {
		return pgtest.Query[int64](t, server.Database,
			"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'silent' AND wait_event = 'SyncRep'")[0]
	}
	outcome := postgres.Committed
	for days := int32(30); outcome == postgres.Committed && days < 130; days++ { // until the setting has reached everyone
		tx, beginErr := database.Begin(ctx)
		if beginErr != nil {
			t.Fatal(beginErr)
		}
		if _, err := tx.EnsurePartitions(ctx, days); err != nil { // something to commit
			t.Fatal(err)
		}
		outcome, err = tx.Commit(ctx)
	}
	if outcome != postgres.Unknown || !errors.Is(err, postgres.ErrOutcomeUnknown) {
		t.Fatalf("outcome %s: %v", outcome, err)
	}
	// A cancel request travels on a connection of its own: give it time to arrive before looking.
	for range 20 {
		time.Sleep(25 * time.Millisecond)
		if waiting() != 1 {
			t.Fatal("the commit no longer waits for its standby")
		}
	}
	server.Exec(t, "ALTER SYSTEM RESET synchronous_standby_names")
	server.Exec(t, "SELECT pg_reload_conf()")
}
