package migrations_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// row is a row to insert: expressions by column.
type row map[string]string

func (r row) with(column, expression string) row {
	changed := maps.Clone(r)
	changed[column] = expression
	return changed
}

// insert inserts rows of the same columns in one statement.
func insert(table string, rows ...row) string {
	columns := slices.Sorted(maps.Keys(rows[0]))
	var values []string
	for _, r := range rows {
		one := make([]string, len(columns))
		for i, column := range columns {
			one[i] = r[column]
		}
		values = append(values, "("+strings.Join(one, ", ")+")")
	}
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES %s", table, strings.Join(columns, ", "), strings.Join(values, ", "))
}

func text(length int) string  { return fmt.Sprintf("repeat('x', %d)", length) }
func bytea(length int) string { return text(length) + "::bytea" }

// Who may write records and streams may still not write just anything: what verification, shipping and every reader rest on
// is bounded by the database, for the superuser too.
func TestI10_UnsoundAuditRowsAreRefused(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	populate(t, d)
	record := row{
		"stream_id": "gen_random_uuid()", "seq": "1", "at": "now()", "actor": text(256), "action": text(64), "secret_name": text(1024),
		"outcome": text(64), "request_id": text(128), "trace_id": text(64), "detail": bytea(65536), "mac": bytea(32), "key_id": "gen_random_uuid()",
	}
	stream := row{
		"stream_id": "gen_random_uuid()", "process": text(256), "kind": "'read'", "opened_at": "now()", "state": "'open'", "closed_at": "NULL",
		"head_seq": "0", "head_mac": bytea(32), "head_at": "now()", "system_id": "'x'", "timeline": "1",
		"predecessor": "NULL", "predecessor_seq": "NULL", "predecessor_mac": "NULL", "key_id": "(SELECT key_id FROM vault.keyring LIMIT 1)",
	}
	for _, user := range []string{"sealkeep_api", pgtest.Superuser} {
		conn := connect(t, d, user)
		for table, sound := range map[string]row{"vault.audit_log": record, "vault.audit_streams": stream} {
			if refused := try(t, conn, insert(table, sound)); refused != nil {
				t.Fatalf("a sound row of %s by %s: %v", table, user, refused)
			}
		}
		for column, wrong := range map[string][]string{
			"seq": {"0", "-1"}, "actor": {text(257)}, "action": {text(65)}, "secret_name": {text(1025)}, "outcome": {text(65)}, "request_id": {text(129)},
			"trace_id": {text(65)}, "detail": {bytea(65537)}, "mac": {bytea(0), bytea(31), bytea(33)},
		} {
			for _, expression := range wrong {
				// One wrong record among right ones is enough.
				refused := try(t, conn, insert("vault.audit_log", record, record.with(column, expression), record))
				if state(refused) != checkFailed || refused.ConstraintName != "sound" {
					t.Errorf("a record whose %s is %s by %s: %v", column, expression, user, refused)
				}
			}
		}
		for column, wrong := range map[string][]string{
			"process": {"''", text(257)}, "kind": {"'other'"}, "state": {"'closed'", "'other'"}, "closed_at": {"now()"}, "system_id": {text(65)}, "predecessor": {"gen_random_uuid()"}, "predecessor_seq": {"1"}, "predecessor_mac": {bytea(32)},
		} {
			for _, expression := range wrong {
				refused := try(t, conn, insert("vault.audit_streams", stream.with(column, expression)))
				if state(refused) != checkFailed || refused.ConstraintName != "sound" {
					t.Errorf("a stream whose %s is %s by %s: %v", column, expression, user, refused)
				}
			}
		}
		for _, set := range []string{
			"state = 'closed'", "closed_at = now()", "state = 'other'", "head_seq = -1", "head_seq = -9223372036854775808",
			"head_mac = " + bytea(31), "head_mac = " + bytea(33),
		} {
			if refused := try(t, conn, "UPDATE vault.audit_streams SET "+set); state(refused) != checkFailed {
				t.Errorf("a stream's %s by %s: %v", set, user, refused)
			}
		}
		if refused := try(t, conn, "UPDATE vault.audit_streams SET state = 'closed', closed_at = now()"); refused != nil {
			t.Errorf("closing a stream by %s: %v", user, refused)
		}
	}
}
