package vault_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// rewrapper is a keeper under two master keys that can be away.
type rewrapper struct {
	*kms.Recoverable
	away  atomic.Bool
	fills atomic.Int64
}

func (r *rewrapper) Fill(ctx context.Context, wrapped []byte, keyID string, ec kms.Context) ([]byte, error) {
	r.fills.Add(1)
	if r.away.Load() {
		return nil, fault.Wrap(fault.Unavailable, errors.New("away"), "")
	}
	return r.Recoverable.Fill(ctx, wrapped, keyID, ec)
}

// rewraps gives a process that adds wrappings under another key, and isn't started.
func (f *fixture) rewraps(recovery *kms.Local) (*fixture, *rewrapper) {
	f.t.Helper()
	both, err := kms.NewRecoverable(f.keeper.Local, recovery, kms.RecoveryConfig{})
	must(f.t, err)
	r := &rewrapper{Recoverable: both}
	o := *f
	o.metrics = prometheus.NewRegistry()
	o.cfg.Metrics, o.cfg.Rewrapper = o.metrics, r
	o.vault, err = vault.New(f.api, f.trail, f.keeper, f.keyring, o.cfg)
	must(f.t, err)
	return &o, r
}

func (f *fixture) wrappedTwice() int64 {
	f.t.Helper()
	return pgtest.Query[int64](f.t, f.db, "SELECT count(*) FROM vault.secret_versions WHERE starts_with(encode(wrapped_dek, 'escape'), 'sealkeep/wrapped-twice')")[0]
}

// One row that doesn't unwrap keeps no other from its second wrapping.
func TestRewrap_PassesOverWhatIsDamaged(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for i := range 5 {
		f.put(fmt.Sprint("s", i), "x")
	}
	other, _ := f.rewraps(newKeeper(t))
	damaged := pgtest.Query[string](t, f.db, "SELECT name FROM vault.secrets ORDER BY id LIMIT 2")
	f.db.Exec(t, `UPDATE vault.secret_versions SET wrapped_dek = set_byte(wrapped_dek, 40, get_byte(wrapped_dek, 40) # 1)
		WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = $1)`, damaged[0])
	f.db.Exec(t, "UPDATE vault.secrets SET description = 'forged' WHERE name = $1", damaged[1])
	if n, err := other.vault.Rewrap(context.Background()); n != 3 || err != nil {
		t.Errorf("%d of 3 sound versions were filled: %v", n, err)
	}
	if n := f.wrappedTwice(); n != 3 {
		t.Errorf("%d versions are wrapped twice", n)
	}
	if n := other.alarms(); n != 2 {
		t.Errorf("%v alarms of 2 secrets", n)
	}
	type record struct{ Name, Outcome, Actor string }
	want := map[string]string{damaged[0]: "unverifiable", damaged[1]: "unverifiable"}
	records := pgtest.Query[record](t, f.db, "SELECT secret_name::text, outcome::text, actor::text FROM vault.audit_log WHERE action = 'secret.rewrap'")
	if len(records) != 5 {
		t.Errorf("%d records of 5 secrets", len(records))
	}
	for _, r := range records {
		outcome := want[r.Name]
		if outcome == "" {
			outcome = "ok"
		}
		if r.Outcome != outcome || r.Actor != "process:"+processName {
			t.Errorf("%+v, want the outcome %s", r, outcome)
		}
	}
	if report := f.verifyTrail(); report.Found != 0 {
		t.Errorf("%+v", report.Problems)
	}
}

func TestI3_AWrappingIsAddedWithItsRecordOrNotAtAll(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("a", "x")
	other, _ := f.rewraps(newKeeper(t))
	f.db.Exec(t, "REVOKE INSERT ON vault.audit_log FROM vault_api")
	if n, err := other.vault.Rewrap(context.Background()); n != 0 || f.wrappedTwice() != 0 {
		t.Errorf("without a record %d were filled: %v", n, err)
	}
	f.db.Exec(t, "GRANT INSERT ON vault.audit_log TO vault_api")
	eventually(t, "records can be written again", func() bool { return f.vault.Ready(context.Background()) == nil })
	if n, err := other.vault.Rewrap(context.Background()); n != 1 || err != nil || f.wrappedTwice() != 1 {
		t.Errorf("%d were filled: %v", n, err)
	}
	f.finds(true) // the trail tells of the revision that this made
}

func TestRewrap_IsOneProcesssWorkAtATime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	recovery := newKeeper(t)
	one, first := f.rewraps(recovery)
	two, second := f.rewraps(recovery)
	turnOne, releaseOne := one.vault.RewrapTurns()
	turnTwo, releaseTwo := two.vault.RewrapTurns()
	defer func() { releaseOne(ctx); releaseTwo(ctx) }()

	f.put("a", "x")
	turnOne(ctx)
	if n := f.wrappedTwice(); n != 1 {
		t.Fatalf("%d versions are wrapped twice", n)
	}
	f.put("b", "x")
	turnTwo(ctx)
	if n := second.fills.Load(); n != 0 || f.wrappedTwice() != 1 {
		t.Errorf("the other process works, too: it filled %d", n)
	}
	turnOne(ctx)
	if n := f.wrappedTwice(); n != 2 {
		t.Errorf("%d versions are wrapped twice", n)
	}

	f.put("c", "x")
	first.away.Store(true)
	turnOne(ctx)
	turnTwo(ctx)
	if n := second.fills.Load(); n != 1 || f.wrappedTwice() != 3 {
		t.Errorf("one that can't leaves it to no other: it filled %d", n)
	}

	f.put("d", "x")
	first.away.Store(false)
	turnOne(ctx)
	if n := f.wrappedTwice(); n != 3 {
		t.Errorf("the first one takes it back: %d versions are wrapped twice", n)
	}
	f.db.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
	eventually(t, "one that was cut off leaves it to another", func() bool { turnOne(ctx); return f.wrappedTwice() == 4 })
	f.put("e", "x")
	turnTwo(ctx)
	if n := second.fills.Load(); n != 1 {
		t.Errorf("the one that was cut off takes it for its own still: it filled %d", n)
	}
}
