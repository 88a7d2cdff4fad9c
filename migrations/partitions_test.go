package migrations_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

const ensure = "SELECT vault.ensure_audit_partitions($1)"

// leaf is a partition as the catalogue has it.
type leaf struct {
	Name             string
	Owner            string
	Enabled, Forced  bool
	Triggers, Grants int // append-only triggers that always fire; rights of others than the owner
	SameChecks       bool
	SameKey          bool
	Begins, Ends     string // in UTC
	Contiguous       bool   // begins where the one before ends
}

func describe(t *testing.T, d *pgtest.Database) []leaf {
	t.Helper()
	return pgtest.Query[leaf](t, d, `
		WITH leaf AS (
			SELECT c.*, regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.*)''\) TO \(''(.*)''\)')::timestamptz[] AS bounds
			FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'vault.audit_log'::regclass
		), checks AS (
			SELECT conrelid, array_agg(pg_get_constraintdef(oid) ORDER BY pg_get_constraintdef(oid)) FILTER (WHERE contype = 'c') AS defs,
			       max(pg_get_constraintdef(oid)) FILTER (WHERE contype = 'p') AS key
			FROM pg_constraint WHERE contype IN ('c', 'p') GROUP BY conrelid
		)
		SELECT leaf.relname::text, pg_get_userbyid(leaf.relowner)::text, leaf.relrowsecurity, leaf.relforcerowsecurity,
		       -- tgtype: 2 is BEFORE, 8 DELETE, 16 UPDATE, 32 TRUNCATE; no 1, which is FOR EACH ROW
		       (SELECT count(*)::int FROM pg_trigger t WHERE t.tgrelid = leaf.oid AND t.tgenabled = 'A' AND t.tgtype = 2 | 8 | 16 | 32
		        AND t.tgfoid = 'vault.refuse_audit_rewrite()'::regprocedure AND t.tgqual IS NULL),
		       (SELECT count(*)::int FROM aclexplode(leaf.relacl) AS item WHERE item.grantee <> leaf.relowner),
		       mine.defs IS NOT DISTINCT FROM parents.defs, mine.key = parents.key,
		       to_char(bounds[1] AT TIME ZONE 'GMT', 'YYYYMMDD HH24MISS'), to_char(bounds[2] AT TIME ZONE 'GMT', 'YYYYMMDD HH24MISS'),
		       coalesce(bounds[1] = lag(bounds[2]) OVER (ORDER BY bounds[1]), true)
		FROM leaf JOIN checks AS mine ON mine.conrelid = leaf.oid
		JOIN checks AS parents ON parents.conrelid = 'vault.audit_log'::regclass
		ORDER BY bounds[1]`)
}

// flawless checks that every partition is a day in UTC and refuses what the trail must refuse.
func flawless(t *testing.T, d *pgtest.Database) {
	t.Helper()
	days := describe(t, d)
	for _, l := range days {
		if !l.Enabled || !l.Forced || l.Owner != "vault_owner" || l.Triggers != 1 || l.Grants != 0 || !l.SameChecks || !l.SameKey {
			t.Errorf("partition %+v", l)
		}
		begins, ends := strings.TrimSuffix(l.Begins, " 000000"), strings.TrimSuffix(l.Ends, " 000000")
		if l.Name != "audit_log_"+begins || len(begins) != 8 || len(ends) != 8 || !l.Contiguous {
			t.Errorf("%s is from %s to %s, contiguous %v", l.Name, l.Begins, l.Ends, l.Contiguous)
		}
	}
	covered := pgtest.Query[bool](t, d, `
		SELECT to_date($1, 'YYYYMMDD') < (now() AT TIME ZONE 'GMT')::date AND to_date($2, 'YYYYMMDD') > (now() AT TIME ZONE 'GMT')::date + 7`,
		days[0].Begins[:8], days[len(days)-1].Ends[:8])[0]
	if !covered {
		t.Errorf("the partitions go from %s to %s", days[0].Begins, days[len(days)-1].Ends)
	}
}

func TestEnsureAuditPartitions_MakesWholeDaysThatRefuseRewriting(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	flawless(t, d)
	before := len(leaves(t, d))
	api := connect(t, d, "sealkeep_api")
	// Neither the caller's time zone nor its search path moves anything.
	if _, err := api.Exec(t.Context(), "SET timezone = '<+14>-14'; SET search_path = pg_temp, public"); err != nil {
		t.Fatal(err)
	}
	made := value[int](t, api, ensure, 20)
	if after := len(leaves(t, d)); made < 12 || made != after-before {
		t.Errorf("%d were made; there were %d and are %d", made, before, after)
	}
	flawless(t, d)

	t.Run("and nothing when they exist", func(t *testing.T) {
		if made := value[int](t, api, ensure, 19); made != 0 {
			t.Errorf("%d were made again", made)
		}
	})
	t.Run("and records go into them", func(t *testing.T) {
		if refused := try(t, api, record("now()")); refused != nil {
			t.Error(refused)
		}
	})
	t.Run("while appends are under way", func(t *testing.T) {
		tx, err := connect(t, d, "sealkeep_api").Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(t.Context()) //nolint:errcheck // it is to hold its locks meanwhile
		if _, err := tx.Exec(t.Context(), record("now()")); err != nil {
			t.Fatal(err)
		}
		if made := value[int](t, api, ensure, 25); made == 0 {
			t.Error("none was made")
		}
	})
}

func TestEnsureAuditPartitions_ConcurrentCallersDoNotCollide(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	before := len(leaves(t, d))
	var made atomic.Int64
	var group sync.WaitGroup
	for i := range 6 {
		conn := connect(t, d, []string{"sealkeep_api", "sealkeep_rotator", "sealkeep_operator"}[i%3])
		group.Go(func() {
			var n int64
			if err := conn.QueryRow(t.Context(), ensure, 12).Scan(&n); err != nil {
				t.Error(err)
			}
			made.Add(n)
		})
	}
	group.Wait()
	if after := len(leaves(t, d)); after == before || made.Load() != int64(after-before) {
		t.Errorf("%d were made; there were %d and are %d", made.Load(), before, after)
	}
	flawless(t, d)
}

func TestEnsureAuditPartitions_RefusesDaysOutOfRange(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	before := leaves(t, d)
	api := connect(t, d, "sealkeep_api")
	for _, days := range []string{"-1", "367", "2147483647", "NULL"} {
		if refused := try(t, api, "SELECT vault.ensure_audit_partitions("+days+")"); state(refused) != badParameter {
			t.Errorf("%s days: %v", days, refused)
		}
	}
	if after := leaves(t, d); !slices.Equal(before, after) {
		t.Errorf("partitions were made: %q", after)
	}
	if refused := try(t, api, "SELECT vault.ensure_audit_partitions(366)"); refused != nil {
		t.Errorf("the longest range: %v", refused)
	}
}

// oldDay makes a partition of a day that is long over, with three records of one stream, 1 to 3, and one of another.
func oldDay(t *testing.T, d *pgtest.Database) {
	t.Helper()
	d.Exec(t, `
		SET ROLE vault_owner;
		CREATE TABLE vault.audit_log_20240229 PARTITION OF vault.audit_log
			FOR VALUES FROM ('2024-02-29 00:00:00+00') TO ('2024-03-01 00:00:00+00');
		CREATE TABLE vault.audit_log_20240302 (LIKE vault.audit_log); -- nobody's partition
		RESET ROLE;
		INSERT INTO vault.audit_log (stream_id, seq, at, actor, action, outcome, request_id, mac, key_id)
		SELECT ('0000000000000000000000000000000' || CASE n WHEN 4 THEN 2 ELSE 1 END)::uuid, n,
		       '2024-02-29 12:00:00+00', 'somebody', 'read', 'allowed', 'r', decode(repeat('2a', 32), 'hex'), gen_random_uuid()
		FROM generate_series(1, 4) AS n`)
}

const (
	first  = "00000000-0000-0000-0000-000000000001" // stream ids of oldDay, whose heads are 3
	second = "00000000-0000-0000-0000-000000000002" // and 4
	drop   = "SELECT vault.drop_audit_partition('2024-02-29')"
)

func shipped(t *testing.T, d *pgtest.Database, sink, stream string, seq int) {
	t.Helper()
	d.Exec(t, `INSERT INTO vault.ship_cursors (sink, stream_id, shipped_seq, global_index) VALUES ($1, $2, $3, 0)
		ON CONFLICT (sink, stream_id) DO UPDATE SET shipped_seq = excluded.shipped_seq`, sink, stream, seq)
}

func TestI10_PartitionIsDroppedOnlyWhenEverySinkHasAllOfIt(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	oldDay(t, d)
	conn := connect(t, d, "sealkeep_auditship")
	refuses := func(why, sql, want string) {
		t.Helper()
		if refused := try(t, conn, sql); state(refused) != want {
			t.Errorf("%s: %v, want %s", why, refused, want)
		}
	}
	refuses("nothing was shipped", drop, notReady)
	d.Exec(t, `SET ROLE vault_owner; CREATE TABLE vault.audit_log_20240303 PARTITION OF vault.audit_log
		FOR VALUES FROM ('2024-03-03 00:00:00+00') TO ('2024-03-04 00:00:00+00'); RESET ROLE`)
	refuses("an empty day, and nothing was ever shipped", "SELECT vault.drop_audit_partition('2024-03-03')", notReady)

	shipped(t, d, "file", first, 3)
	for why, sql := range map[string]string{
		"today":            "SELECT vault.drop_audit_partition((now() AT TIME ZONE 'GMT')::date)",
		"tomorrow":         "SELECT vault.drop_audit_partition((now() AT TIME ZONE 'GMT')::date + 1)",
		"for ever":         "SELECT vault.drop_audit_partition('infinity')",
		"no day":           "SELECT vault.drop_audit_partition(NULL)",
		"today, elsewhere": "SET LOCAL timezone = '<+14>-14'; SELECT vault.drop_audit_partition((now() AT TIME ZONE 'GMT')::date)",
	} {
		refuses(why, sql, badParameter)
	}
	refuses("a day that has no partition", "SELECT vault.drop_audit_partition('2024-03-01')", noSuchTable)
	refuses("a table that is no partition", "SELECT vault.drop_audit_partition('2024-03-02')", noSuchTable)

	refuses("a stream without a cursor", drop, notReady)
	shipped(t, d, "file", second, 3)
	refuses("a stream shipped but for its last record", drop, notReady)
	shipped(t, d, "file", second, 4)
	shipped(t, d, "s3", first, 3)
	refuses("a second sink without one of the streams", drop, notReady)
	shipped(t, d, "s3", second, 3)
	refuses("a second sink behind", drop, notReady)
	shipped(t, d, "s3", second, 5)
	refuses("a snapshot from before what it must see", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; "+drop, notReady)

	for group, login := range logins {
		if group == "vault_auditship" {
			continue
		}
		if refused := try(t, connect(t, d, login), drop); state(refused) != denied {
			t.Errorf("%s drops it: %v", group, refused)
		}
	}

	before := leaves(t, d)
	if records := value[int64](t, conn, drop); records != 4 {
		t.Errorf("%d records were dropped", records)
	}
	after := leaves(t, d)
	if len(after) != len(before)-1 || slices.Contains(after, "vault.audit_log_20240229") || slices.Contains(relations(t, d), "vault.audit_log_20240229") {
		t.Errorf("the partitions were %q and are %q", before, after)
	}
	refuses("a partition that was dropped", drop, noSuchTable)
}

// A record that is being appended while a partition is dropped is either seen as not shipped, or refused; never lost.
func TestI10_DroppingAPartitionLosesNoRecordUnderWay(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	oldDay(t, d)
	shipped(t, d, "file", first, 3)
	shipped(t, d, "file", second, 4)
	d.Exec(t, "DROP POLICY true_time ON vault.audit_log") // as at midnight, when yesterday's are still appended

	tx, err := connect(t, d, "sealkeep_api").Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), record("'2024-02-29 23:59:59+00'")); err != nil {
		t.Fatal(err)
	}
	shipper := connect(t, d, "sealkeep_auditship")
	dropped := make(chan error, 1)
	go func() {
		_, err := shipper.Exec(t.Context(), drop)
		dropped <- err
	}()
	waitUntil(t, d, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock')", shipper)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	// It may have waited too long for the lock, on a slow machine.
	if refused := refusal(t, <-dropped); state(refused) != notReady && state(refused) != lockTimedOut {
		t.Errorf("the partition was dropped: %v", refused)
	}
	if n := pgtest.Query[int](t, d, "SELECT count(*) FROM vault.audit_log WHERE at < '2024-03-01'")[0]; n != 5 {
		t.Errorf("%d of 5 records are left", n)
	}
}

// waitUntil waits until a query about a session's process id says true.
func waitUntil(t *testing.T, d *pgtest.Database, sql string, conn *pgx.Conn) {
	t.Helper()
	for !pgtest.Query[bool](t, d, sql, int(conn.PgConn().PID()))[0] {
		if t.Context().Err() != nil {
			t.Fatal(fmt.Errorf("waiting: %w", t.Context().Err()))
		}
	}
}
