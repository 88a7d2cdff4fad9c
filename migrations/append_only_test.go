package migrations_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// own marks an error as the audit's own refusal, apart from a missing right.
const own = "function vault.refuse_audit_rewrite()"

// Nobody rewrites the trail while its triggers are on: not the owner, not the superuser, not replication's role.
func TestI10_AuditLogRefusesRewritingOnParentAndEveryLeaf(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	populate(t, d)
	before := pgtest.Query[string](t, d, "SELECT l::text FROM vault.audit_log l ORDER BY 1")

	whoever(t, d, func(t *testing.T, conn *pgx.Conn) {
		for _, table := range append(leaves(t, d), "vault.audit_log") {
			for _, sql := range []string{
				"UPDATE %s SET outcome = 'allowed'",
				"UPDATE %s SET outcome = 'allowed' WHERE false",
				"DELETE FROM %s",
				"TRUNCATE %s",
				"TRUNCATE ONLY %s",
				"MERGE INTO %s USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
				"MERGE INTO %s USING (SELECT 1) AS s ON true WHEN MATCHED THEN UPDATE SET outcome = 'allowed'",
				"INSERT INTO %[1]s SELECT * FROM %[1]s ON CONFLICT (stream_id, seq, at) DO UPDATE SET outcome = 'allowed'",
				"WITH gone AS (DELETE FROM %s RETURNING 1) SELECT count(*) FROM gone",
			} {
				sql = fmt.Sprintf(sql, table)
				if sql == "TRUNCATE ONLY vault.audit_log" { // PostgreSQL has no such thing for a partitioned table
					continue
				}
				refusedByTrigger(t, conn, sql)
			}
		}
	})
	after := pgtest.Query[string](t, d, "SELECT l::text FROM vault.audit_log l ORDER BY 1")
	if strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Error("the records have changed")
	}
}

// A stream's row moves on but never goes, not even with the keyring that it refers to.
func TestI10_AuditStreamsRefuseRemoval(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	populate(t, d)
	whoever(t, d, func(t *testing.T, conn *pgx.Conn) {
		for _, sql := range []string{
			"DELETE FROM vault.audit_streams", "TRUNCATE vault.audit_streams", "TRUNCATE vault.keyring CASCADE",
			"MERGE INTO vault.audit_streams USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
		} {
			refusedByTrigger(t, conn, sql)
		}
		if refused := try(t, conn, "UPDATE vault.audit_streams SET head_seq = head_seq + 1"); refused != nil {
			t.Errorf("a head can't move: %v", refused)
		}
	})
}

// whoever runs a check as everybody who has all rights on the trail, and with replication's role, under which ordinary
// triggers stay silent.
func whoever(t *testing.T, d *pgtest.Database, check func(*testing.T, *pgx.Conn)) {
	t.Helper()
	d.Exec(t, `
		CREATE TABLE public.control AS SELECT 1 AS n;
		CREATE TRIGGER ordinary BEFORE DELETE ON public.control FOR EACH STATEMENT EXECUTE FUNCTION vault.refuse_audit_rewrite();
		GRANT ALL ON public.control TO vault_owner`)
	for _, user := range []string{"vault_owner", pgtest.Superuser} {
		for _, replication := range []string{"origin", "local", "replica"} {
			t.Run(user+" with the replication role "+replication, func(t *testing.T) {
				conn := connect(t, d, pgtest.Superuser)
				settings := "SET session_replication_role = " + replication
				if user != pgtest.Superuser {
					settings += "; SET SESSION AUTHORIZATION " + user
				}
				if _, err := conn.Exec(t.Context(), settings); err != nil {
					t.Fatal(err)
				}
				if refused := try(t, conn, "DELETE FROM public.control"); (refused == nil) != (replication == "replica") {
					t.Errorf("an ordinary trigger with %s: %v", replication, refused)
				}
				check(t, conn)
			})
		}
	}
}

func refusedByTrigger(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if refused := try(t, conn, sql); state(refused) != denied || !strings.Contains(refused.Where, own) {
		t.Errorf("%s: %v", sql, refused)
	}
}

func TestI10_RecordMoreThanFiveMinutesOffIsRefused(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	for _, user := range []string{"sealkeep_api", "sealkeep_rotator", "sealkeep_operator"} {
		conn := connect(t, d, user)
		for offset, want := range map[string]string{
			"-5 minutes -1 second": denied, "-4 minutes -50 seconds": succeeded, "0": succeeded,
			"4 minutes 50 seconds": succeeded, "6 minutes": denied, "1 day": denied,
		} {
			if refused := try(t, conn, record("now() + '"+offset+"'")); state(refused) != want {
				t.Errorf("a record of now %s by %s: %v", offset, user, refused)
			}
		}
		// One wrong record among right ones is enough.
		if refused := try(t, conn, record("now()", "now() - interval '6 minutes'")); state(refused) != denied {
			t.Errorf("a wrong record among others by %s: %v", user, refused)
		}
	}
}

// record returns an insert of records at the given times, which are expressions.
func record(at ...string) string {
	rows := make([]string, len(at))
	for i, at := range at {
		rows[i] = fmt.Sprintf("(gen_random_uuid(), %d, %s, 'somebody', 'read', 'allowed', 'r', decode(repeat('2a', 32), 'hex'), gen_random_uuid())",
			i+1, at)
	}
	return "INSERT INTO vault.audit_log (stream_id, seq, at, actor, action, outcome, request_id, mac, key_id) VALUES " +
		strings.Join(rows, ", ")
}

// There is no default partition to take in what belongs nowhere.
func TestI4_RecordWithoutAPartitionIsRefused(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	today := pgtest.Query[string](t, d, "SELECT 'vault.audit_log_' || to_char(now() AT TIME ZONE 'GMT', 'YYYYMMDD')")[0]
	api := connect(t, d, "sealkeep_api")
	if refused := try(t, api, record("now()")); refused != nil {
		t.Fatalf("with its partition: %v", refused)
	}
	d.Exec(t, "ALTER TABLE vault.audit_log DETACH PARTITION "+today)
	if refused := try(t, api, record("now()")); state(refused) != checkFailed || refused.ConstraintName != "" {
		t.Errorf("without today's partition: %v", refused)
	}
	d.Exec(t, "DROP POLICY true_time ON vault.audit_log")
	if refused := try(t, api, record("now() + '1 year'")); state(refused) != checkFailed {
		t.Errorf("a year ahead: %v", refused)
	}
}
