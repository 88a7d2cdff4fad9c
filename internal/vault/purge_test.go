package vault_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// purges gives a rotator's turns at removing what has ended.
func (f *fixture) purges() (r *rotator, turn func() time.Duration) {
	f.t.Helper()
	r = f.rotator()
	once, release := r.PurgeTurns()
	f.t.Cleanup(func() { release(context.Background()) })
	return r, func() time.Duration { return once(context.Background()) }
}

// changed puts a secret that had some values before, each valid for graceSecs after it was superseded.
func (f *fixture) changed(name string, graceSecs int64, values ...string) {
	f.t.Helper()
	ctx := context.Background()
	f.put(name, "first")
	for _, value := range values {
		_, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{
			Name: name, Given: text(value), GracePeriodSecs: vault.Optional[int64]{Set: true, Value: graceSecs},
		})
		must(f.t, err)
	}
}

func (f *fixture) wantVersions(name string, want ...int64) {
	f.t.Helper()
	if got := f.versionsOf(name); !slices.Equal(got, want) {
		f.t.Errorf("%s has the versions %v, want %v", name, got, want)
	}
}

func TestPurge_RemovesWhatHasEndedWithItsRecord(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.changed("ended", 0, "second")
	f.changed("several", 3600, "second", "third")
	f.changed("valid", 3600, "second")
	f.made("UPDATE vault.secret_versions SET expires_at = now() - interval '1 hour' WHERE state = 'superseded' AND secret_id = (SELECT id FROM vault.secrets WHERE name = 'several')")
	r, turn := f.purges()
	turn()
	f.wantVersions("ended", 2)
	f.wantVersions("several", 3)
	f.wantVersions("valid", 1, 2)
	if n := r.metric("sealkeep_vault_purged_versions_total"); n != 3 {
		t.Errorf("%v versions are told to be purged", n)
	}
	if n := r.metric("sealkeep_vault_expired_versions"); n != 0 {
		t.Errorf("%v versions are told to be left", n)
	}
	type fact struct{ Actor, Detail string }
	for name, removed := range map[string]int{"ended": 1, "several": 2} {
		records := pgtest.Query[fact](t, f.db, `SELECT actor::text, convert_from(detail, 'UTF8') FROM vault.audit_log WHERE action = 'secret.purge' AND secret_name = $1`, name)
		if len(records) != 1 || records[0].Actor != "process:"+rotatorName || !strings.Contains(records[0].Detail, fmt.Sprintf(`"versions_removed":%d`, removed)) {
			t.Errorf("%s: %+v", name, records)
		}
	}
	if got := f.read("several"); got != "third" {
		t.Errorf("it is %q", got)
	}
	must(t, f.describe("ended")) // whose revision and digest are those of what is left
	turn()
	if n := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.audit_log WHERE action = 'secret.purge'")[0]; n != 2 {
		t.Errorf("%d records, though nothing was left to do", n)
	}
}

func TestI6_WhatWasPurgedIsToldByTheTrail(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.changed("a", 0, "second")
	f.changed("b", 0, "second")
	_, turn := f.purges()
	turn()
	f.wantVersions("a", 2)
	f.finds(true)
	if report := f.examine(true); report.Untold != 0 || strings.Contains(strings.Join(report.Notes, ""), "didn't note") {
		t.Errorf("%d last changes are untold: %q", report.Untold, report.Notes)
	}
}

// A target may know an older password alone: what is past its grace stays until the current one has worked there.
func TestPurge_KeepsATargetsVersionsUntilTheCurrentOneHasWorked(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.changed("s", 3600, "second", "third", "fourth")
	f.made(`UPDATE vault.secrets SET target = '{}' WHERE name = 's'`)
	f.made(`UPDATE vault.secret_versions SET expires_at = now() - interval '1 hour' WHERE version IN (1, 2)`)
	f.made(`UPDATE vault.secret_versions SET state = 'abandoned', expires_at = NULL WHERE version = 3`)
	r, turn := f.purges()
	id := pgtest.Query[uuid.UUID](t, f.db, "SELECT id FROM vault.secrets")[0]
	stays := func(why string) {
		t.Helper()
		turn()
		if n, err := r.PurgeSecret(context.Background(), id, "s"); n != 0 || err != nil {
			t.Errorf("%s: %d were removed, %v", why, n, err)
		}
		if got := f.versionsOf("s"); len(got) != 4 {
			t.Errorf("%s: the versions are %v", why, got)
		}
	}
	probe := func(version int64, ok bool) {
		t.Helper()
		f.db.Exec(t, `INSERT INTO vault.rotation_probes (secret_id, version_uid, ok, checked_at, next_at)
			SELECT secret_id, version_uid, $2, now(), now() FROM vault.secret_versions WHERE version = $1
			ON CONFLICT (secret_id) DO UPDATE SET version_uid = excluded.version_uid, ok = excluded.ok`, version, ok)
	}
	stays("nobody has tried")
	probe(4, false)
	stays("it did not work")
	probe(2, true)
	stays("another version works")
	if n := r.metric("sealkeep_vault_expired_versions"); n != 2 {
		t.Errorf("%v versions are told to be left", n)
	}
	probe(4, true)
	turn()
	f.wantVersions("s", 3, 4) // the abandoned one may be live there still
}

func TestPurge_DamageKeepsNobodyElseWaitingAndIsNotTriedAllTheTime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for i := range 6 {
		f.changed(fmt.Sprint("s", i), 0, "second")
	}
	f.db.Exec(t, "UPDATE vault.secrets SET description = 'forged' WHERE name = 's0'")
	f.db.Exec(t, "UPDATE vault.secret_versions SET expires_at = expires_at - interval '1 day' WHERE state = 'superseded' AND secret_id = (SELECT id FROM vault.secrets WHERE name = 's1')")
	r, turn := f.purges()
	alarms := func(want float64) {
		t.Helper()
		if n := r.metric("sealkeep_vault_integrity_failures_total"); n != want {
			t.Errorf("%v alarms, want %v", n, want)
		}
	}
	for range 5 {
		if wait := turn(); wait < time.Second {
			t.Errorf("the next turn comes after %s", wait)
		}
	}
	for i := range 6 {
		if i < 2 {
			f.wantVersions(fmt.Sprint("s", i), 1, 2)
			continue
		}
		f.wantVersions(fmt.Sprint("s", i), 2)
	}
	alarms(2)
	if f.recorded("secret.purge", "s0", "unverifiable") != 1 || f.recorded("secret.purge", "s1", "unverifiable") != 1 {
		t.Error("the damage isn't in the trail, once each")
	}
	r.clock.advance(vault.PurgeAgain)
	turn()
	turn()
	alarms(4)
	r.clock.advance(vault.PurgeAgain)
	turn()
	alarms(4) // the second time it waits for twice as long
	r.clock.advance(vault.PurgeAgain)
	turn()
	alarms(6)
}

func TestPurge_SleepsUntilTheNextGraceEnds(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, turn := f.purges()
	if wait := turn(); wait != time.Minute {
		t.Errorf("with nothing to come: %s", wait)
	}
	f.changed("soon", 30, "second")
	if wait := turn(); wait > 30*time.Second || wait < time.Second {
		t.Errorf("with a grace that ends in 30 s: %s", wait)
	}
	f.changed("later", 3600, "second")
	f.made("UPDATE vault.secret_versions SET expires_at = now() + interval '50 milliseconds' WHERE state = 'superseded'")
	if wait := turn(); wait != time.Second && wait != time.Minute {
		t.Errorf("never more often than once in a second, and not: %s", wait)
	}
}

func TestPurge_IsOneProcesssWorkAtATime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	first, second := f.rotator(), f.rotator()
	turnFirst, releaseFirst := first.PurgeTurns()
	turnSecond, releaseSecond := second.PurgeTurns()
	ctx := context.Background()
	defer releaseSecond(ctx)
	turnFirst(ctx)
	f.changed("a", 0, "second")
	turnSecond(ctx)
	f.wantVersions("a", 1, 2)
	releaseFirst(ctx)
	eventually(t, "the other one takes it", func() bool { turnSecond(ctx); return len(f.versionsOf("a")) == 1 })
}

func TestPurge_SweepsWhatIsOfNoUseAnyMore(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("a", "x")
	f.db.Exec(t, `
		INSERT INTO vault.rotation_jobs (id, secret_id, reason, due_at, base_version, run_at, completed_at, outcome)
		SELECT gen_random_uuid(), id, 'scheduled', now(), 1, now(), now() - n * interval '10 days', 'rotated' FROM vault.secrets, generate_series(1, 5) n;
		INSERT INTO vault.rotation_jobs (id, secret_id, reason, due_at, base_version, run_at)
		SELECT gen_random_uuid(), id, 'scheduled', now() - interval '1 year', 1, now() - interval '1 year' FROM vault.secrets;
		INSERT INTO vault.idempotency_keys (token_id, key, request_mac, secret_id, version_uid, expires_at)
		SELECT t.id, n::text, sha256('x'), s.id, gen_random_uuid(), now() + n * interval '1 hour' FROM vault.admin_tokens t, vault.secrets s, generate_series(-2500, 1) n;
		INSERT INTO vault.rotation_fetches (token_sha256, secret_id, version_uid, created_at, expires_at)
		SELECT sha256(n::text::bytea), id, gen_random_uuid(), now(), now() + n * interval '1 hour' FROM vault.secrets, generate_series(-2, 2) n;`)
	r, turn := f.purges()
	counts := func() []int64 {
		return []int64{
			pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.rotation_jobs")[0],
			pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.idempotency_keys")[0],
			pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.rotation_fetches")[0],
		}
	}
	turn()
	// Jobs of 10 and 20 days ago and the open one; keys and fetches that expire later.
	if got := counts(); !slices.Equal(got, []int64{3, 1, 2}) {
		t.Errorf("left are %v jobs, keys and fetches", got)
	}
	f.db.Exec(t, "UPDATE vault.rotation_fetches SET expires_at = now()")
	turn()
	if got := counts(); got[2] != 2 {
		t.Error("it is swept at every turn")
	}
	r.clock.advance(time.Minute)
	turn()
	if got := counts(); got[2] != 0 {
		t.Error("it isn't swept after a minute")
	}
}

// What each turn asks must not depend on how many secrets there are.
func TestPurge_LooksForWhatHasEndedByIndexesAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.db.Exec(t, `
		INSERT INTO vault.secrets (id, name, kind, format, current_version)
		SELECT gen_random_uuid(), 'n' || n, 'manual', 'opaque', 2 FROM generate_series(1, 20000) n;
		INSERT INTO vault.secret_versions (secret_id, version, version_uid, state, kms_key_id, wrapped_dek, nonce, ciphertext, expires_at)
		SELECT id, v, gen_random_uuid(), CASE v WHEN 1 THEN 'superseded' ELSE 'current' END, 'k', 'w', decode(repeat('2a', 24), 'hex'), 'c',
		       CASE v WHEN 1 THEN now() + (random() - 0.01) * interval '1 day' END
		FROM vault.secrets, generate_series(1, 2) v;
		ANALYZE vault.secrets, vault.secret_versions, vault.rotation_probes`)
	text, err := os.ReadFile("../postgres/queries/housekeeping.sql")
	must(t, err)
	statements := regexp.MustCompile(`(?ms)^-- name: (\w+) :\w+$(.*?);$`).FindAllStringSubmatch(string(text), -1)
	values := strings.NewReplacer("@after_at", "'-infinity'", "@after_id", "'00000000-0000-0000-0000-000000000000'", "@after_version", "0", "@max_rows", "200")
	explained := 0
	for _, s := range statements {
		if !slices.Contains([]string{"EndedVersions", "NextExpiry", "EndedTotal"}, s[1]) {
			continue
		}
		explained++
		plan := strings.Join(pgtest.Query[string](t, f.db, "EXPLAIN "+values.Replace(s[2])), "\n")
		if strings.Contains(plan, "Seq Scan on secret") || !strings.Contains(plan, "secret_versions_expiry") {
			t.Errorf("%s:\n%s", s[1], plan)
		}
	}
	if explained != 3 {
		t.Errorf("%d statements were explained", explained)
	}
}
