package vault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// rewrapper is a keeper under two master keys that can be away.
type rewrapper struct {
	*kms.Recoverable
	away   atomic.Bool
	fills  atomic.Int64
	before func() // runs before each fill
}

func (r *rewrapper) Fill(ctx context.Context, stored kms.Stored, ec kms.Context) ([]byte, string, error) {
	r.fills.Add(1)
	if r.before != nil {
		r.before()
	}
	if r.away.Load() {
		return nil, "", fault.Wrap(fault.Unavailable, errors.New("away"), "")
	}
	return r.Recoverable.Fill(ctx, stored, ec)
}

// rewraps gives a rotator that adds wrappings under another key.
func (f *fixture) rewraps(recovery *kms.Local) (*rotator, *rewrapper) {
	f.t.Helper()
	both, err := kms.NewRecoverable(f.keeper.Local, recovery, kms.RecoveryConfig{})
	must(f.t, err)
	r := &rewrapper{Recoverable: both}
	return f.rotator(func(cfg *vault.Config) { cfg.Rewrapper = r }), r
}

// moves gives a rotator that moves what is stored to another master key.
func (f *fixture) moves(to *kms.Local) (*rotator, *rewrapper) {
	f.t.Helper()
	keeper := &moved{Local: to, former: f.keeper.Local}
	alone, err := kms.NewRecoverable(keeper, nil, kms.RecoveryConfig{})
	must(f.t, err)
	r := &rewrapper{Recoverable: alone}
	return f.rotatorWith(keeper, func(cfg *vault.Config) { cfg.Rewrapper = r }), r
}

func (f *fixture) wrappedTwice() int64 {
	f.t.Helper()
	return pgtest.Query[int64](f.t, f.db, "SELECT count(*) FROM vault.secret_versions WHERE starts_with(encode(wrapped_dek, 'escape'), 'sealkeep/wrapped-twice')")[0]
}

// One row that doesn't unwrap keeps no other from its second wrapping.
func TestRewrap_PassesOverWhatIsDamaged(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for i := range 6 {
		f.put(fmt.Sprint("s", i), "x")
	}
	other, _ := f.rewraps(newKeeper(t))
	damaged := pgtest.Query[string](t, f.db, "SELECT name FROM vault.secrets ORDER BY id LIMIT 3")
	f.db.Exec(t, `UPDATE vault.secret_versions SET wrapped_dek = set_byte(wrapped_dek, 40, get_byte(wrapped_dek, 40) # 1)
		WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = $1)`, damaged[0])
	f.db.Exec(t, "UPDATE vault.secrets SET description = 'forged' WHERE name = $1", damaged[1])
	// Its data key unwraps, and it would get a MAC that says that all the rest is so.
	f.db.Exec(t, `UPDATE vault.secret_versions SET created_at = created_at - interval '1 day'
		WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = $1)`, damaged[2])
	if did, err := other.Rewrap(context.Background()); did != (vault.Rewrapped{Found: 6, Done: 3, Failed: 3, Lack: 3}) || err != nil {
		t.Errorf("of 3 sound versions and 3 damaged ones: %+v, %v", did, err)
	}
	if n := f.wrappedTwice(); n != 3 {
		t.Errorf("%d versions are wrapped twice", n)
	}
	if n := other.metric("sealkeep_vault_integrity_failures_total"); n != 3 {
		t.Errorf("%v alarms of 3 secrets", n)
	}
	type record struct{ Name, Outcome, Actor string }
	want := map[string]string{damaged[0]: "unverifiable", damaged[1]: "unverifiable", damaged[2]: "unverifiable"}
	records := pgtest.Query[record](t, f.db, "SELECT secret_name::text, outcome::text, actor::text FROM vault.audit_log WHERE action = 'secret.rewrap'")
	if len(records) != 6 {
		t.Errorf("%d records of 6 secrets", len(records))
	}
	for _, r := range records {
		outcome := want[r.Name]
		if outcome == "" {
			outcome = "ok"
		}
		if r.Outcome != outcome || r.Actor != "process:"+rotatorName {
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
	f.db.Exec(t, "REVOKE INSERT ON vault.audit_log FROM vault_rotator")
	if did, err := other.Rewrap(context.Background()); did.Done != 0 || f.wrappedTwice() != 0 {
		t.Errorf("without a record %+v, %v", did, err)
	}
	f.db.Exec(t, "GRANT INSERT ON vault.audit_log TO vault_rotator")
	eventually(t, "records can be written again", func() bool { return other.Ready(context.Background()) == nil })
	if did, err := other.Rewrap(context.Background()); did.Done != 1 || err != nil || f.wrappedTwice() != 1 {
		t.Errorf("%+v, %v", did, err)
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
	turnOne, releaseOne := one.RewrapTurns()
	turnTwo, releaseTwo := two.RewrapTurns()
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

func (f *fixture) under(keyID string) int64 {
	f.t.Helper()
	return pgtest.Query[int64](f.t, f.db, "SELECT count(*) FROM vault.secret_versions WHERE kms_key_id = $1", keyID)[0]
}

func (f *fixture) state() string {
	f.t.Helper()
	return pgtest.Query[string](f.t, f.db, "SELECT concat_ws(' ', state, found, done, failed, error) FROM vault.rewrap_state")[0]
}

func TestRewrap_MovesEveryVersionToAnotherMasterKey(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	for i := range 300 { // more than a page
		f.put(fmt.Sprint("s", i), fmt.Sprint("value ", i))
	}
	_, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{
		Name: "s0", Given: text("another"), GracePeriodSecs: vault.Optional[int64]{Set: true, Value: 3600},
	})
	must(t, err)
	next := newKeeper(t)
	r, _ := f.moves(next)
	if did, err := r.Rewrap(ctx); did != (vault.Rewrapped{Found: 301, Done: 301}) || err != nil {
		t.Errorf("%+v, %v", did, err)
	}
	if n := f.under(next.KeyID()); n != 301 || f.under(f.keeper.KeyID()) != 0 {
		t.Errorf("%d versions are under the new key", n)
	}
	if s := f.state(); s != "done 301 301 0" {
		t.Errorf("told as %q", s)
	}
	if did, err := r.Rewrap(ctx); did != (vault.Rewrapped{}) || err != nil {
		t.Errorf("what is whole was wrapped again: %+v, %v", did, err)
	}
	if n := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.audit_log WHERE action = 'secret.rewrap' AND outcome = 'ok'")[0]; n != 300 {
		t.Errorf("%d records of 300 secrets", n)
	}
	f.finds(true)
	status, err := f.vault.Status(ctx, f.admin)
	must(t, err)
	if s := status.Rewrap; s == nil || s.State != "done" || s.Worker != "process:"+rotatorName || s.Remaining != 0 || s.LastError != "" {
		t.Errorf("status %+v", s)
	}
	f.keeper.Local = next // the former master key is gone
	for _, name := range []string{"s1", "s299"} {
		if got := f.read(name); got != "value "+name[1:] {
			t.Errorf("%s is %q", name, got)
		}
	}
}

func TestRewrap_GoesOnAfterItWasInterrupted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	for i := range 10 {
		f.put(fmt.Sprint("s", i), "x")
	}
	next := newKeeper(t)
	r, keeper := f.moves(next)
	cut, cancel := context.WithCancel(ctx)
	keeper.before = func() {
		if keeper.fills.Load() == 5 {
			cancel()
		}
	}
	if did, err := r.Rewrap(cut); err == nil || did.Done != 4 {
		t.Errorf("cut off in the middle: %+v, %v", did, err)
	}
	if s := f.state(); !strings.HasPrefix(s, "failed 10 4 0 ") {
		t.Errorf("told as %q", s)
	}
	keeper.before = nil
	resumed, again := f.moves(next)
	if did, err := resumed.Rewrap(ctx); did.Done != 6 || err != nil || again.fills.Load() != 6 {
		t.Errorf("%d were filled, %+v, %v", again.fills.Load(), did, err)
	}
	if n := f.under(next.KeyID()); n != 10 {
		t.Errorf("%d versions are under the new key", n)
	}
	f.finds(true)
}

func TestRewrap_WrapsWhatAnOperatorAsksFor(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.put("a", "x")
	f.put("b", "x")
	alone, err := kms.NewRecoverable(f.keeper.Local, nil, kms.RecoveryConfig{})
	must(t, err)
	r := f.rotator(func(cfg *vault.Config) { cfg.Rewrapper = alone })
	request := func(all bool) {
		t.Helper()
		_, err := vault.RequestRewrap(ctx, f.open("sealkeep_operator"), f.keeper.Local, all)
		must(t, err)
	}
	rewraps := func(want int64) {
		t.Helper()
		if did, err := r.Rewrap(ctx); did.Done != want || err != nil {
			t.Errorf("%+v, %v; want %d", did, err, want)
		}
	}
	request(false)
	rewraps(0)
	request(true)
	rewraps(2)
	rewraps(0)
	f.put("c", "x")
	rewraps(0) // it is newer than the request
	if n := f.under(f.keeper.KeyID()); n != 3 {
		t.Errorf("%d versions are under the one key", n)
	}
	for _, name := range []string{"a", "b", "c"} {
		if got := f.read(name); got != "x" {
			t.Errorf("%s is %q", name, got)
		}
	}
	f.finds(true)
	f.db.Exec(t, "UPDATE vault.rewrap_state SET again_before = now() + interval '1 year', requested_at = now() + interval '1 year'")
	rewraps(0) // what was asked for in the future would never be done
	f.db.Exec(t, "DELETE FROM vault.rewrap_state")
	rewraps(0)
}

func TestRewrap_KeepsToItsPace(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for i := range 8 {
		f.put(fmt.Sprint("s", i), "x")
	}
	keeper := &moved{Local: newKeeper(t), former: f.keeper.Local}
	alone, err := kms.NewRecoverable(keeper, nil, kms.RecoveryConfig{})
	must(t, err)
	at := time.Now()
	var rested time.Duration
	calls := &rewrapper{Recoverable: alone}
	r := f.rotatorWith(keeper, func(cfg *vault.Config) {
		cfg.Rewrapper, cfg.RewrapPerSecond = calls, 4
		cfg.Clock = func() time.Time { return at.Add(rested) }
	})
	calls.before = func() { // call n comes no earlier than (n-1)/4 of a second after the first
		if n := calls.fills.Load(); rested < time.Duration(n-1)*time.Second/4 {
			t.Errorf("call %d comes after %s", n, rested)
		}
	}
	r.OnRest(func(d time.Duration) { rested += d })
	did, err := r.Rewrap(context.Background())
	if did.Done != 8 || err != nil || calls.fills.Load() != 8 || rested != 7*time.Second/4 {
		t.Errorf("%d calls in %s: %+v, %v", calls.fills.Load(), rested, did, err)
	}
}

// Those who read go on while everything moves, and see no other value.
func TestI5_ReadersReadWhileDataKeysMove(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	for i := range 60 {
		f.put(fmt.Sprint("s", i), fmt.Sprint("value ", i))
	}
	keeper := &moved{Local: newKeeper(t), former: f.keeper.Local}
	reading, err := vault.New(f.api, f.trail, keeper, f.keyring, vault.Config{Allowlist: f.cfg.Allowlist, ReadAuth: f.cfg.ReadAuth, SealedCacheBytes: 1 << 20})
	must(t, err)
	must(t, reading.Start(ctx))
	t.Cleanup(func() { must(t, reading.Stop(ctx)) })
	r, _ := f.moves(keeper.Local)
	var done atomic.Bool
	var reads atomic.Int64
	var readers sync.WaitGroup
	for reader := range 4 {
		readers.Go(func() {
			for i := reader; !done.Load(); i++ {
				name := fmt.Sprint("s", i%60)
				s, err := reading.Read(ctx, f.admin, vault.ReadRequest{Name: name})
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				if got := string(s.Material.Value.Reveal()); got != "value "+name[1:] {
					t.Errorf("%s is %q", name, got)
				}
				s.Release()
				reads.Add(1)
			}
		})
	}
	eventually(t, "everybody reads", func() bool { return reads.Load() > 50 })
	did, err := r.Rewrap(ctx)
	after := reads.Load()
	eventually(t, "they go on", func() bool { return reads.Load() > after+50 || t.Failed() })
	done.Store(true)
	readers.Wait()
	if did.Done != 60 || err != nil || f.under(keeper.KeyID()) != 60 {
		t.Errorf("%+v, %v", did, err)
	}
}
