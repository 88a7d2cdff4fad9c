package tamper

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// authority are the tables whose rows carry MACs, but for the keyring, which processes read at their start alone.
var authority = []string{"authz_state", "roles", "role_permissions", "admin_tokens", "secrets", "secret_versions", "deleted_secrets"}

// cell is one thing that somebody does to a table.
type cell struct{ table, what, sql string }

// columnCells gives, for every column that a table has, an edit, an exchange with another row and a NULL. A column of a type that isn't known
// here fails the test: it needs a cell.
func columnCells(t *testing.T, d *pgtest.Database, table string) (cells []cell) {
	t.Helper()
	type column struct{ Name, Type string }
	for _, c := range pgtest.Query[column](t, d, `SELECT column_name::text, data_type::text FROM information_schema.columns
		WHERE table_schema = 'vault' AND table_name = $1 ORDER BY ordinal_position`, table) {
		edits := map[string]string{
			"uuid": "gen_random_uuid()", "boolean": "NOT %[1]s", "bigint": "coalesce(%[1]s, 0) + 1",
			"timestamp with time zone": "coalesce(%[1]s, now()) + interval '1 hour'", "text": "%[1]s || 'x'",
			"bytea": `CASE WHEN octet_length(%[1]s) > 0 THEN set_byte(%[1]s, 0, get_byte(%[1]s, 0) # 1) ELSE '\x00' END`,
		}
		edit, known := edits[c.Type]
		if !known {
			t.Fatalf("vault.%s.%s is of type %s, for which there is no edit", table, c.Name, c.Type)
		}
		switch table + "." + c.Name { // what the table's own checks allow
		case "role_permissions.action":
			edit = "CASE %[1]s WHEN 'read' THEN 'delete' ELSE '*' END"
		case "secrets.kind":
			edit = "CASE %[1]s WHEN 'manual' THEN 'automatic' ELSE 'manual' END, rotation_interval_secs = coalesce(rotation_interval_secs, 60)"
		case "secrets.format":
			edit = "CASE %[1]s WHEN 'opaque' THEN 'userpass' ELSE 'opaque' END"
		case "secret_versions.state":
			edit = "'abandoned', expires_at = NULL"
		case "secret_versions.expires_at":
			edit = "CASE WHEN state = 'superseded' THEN %[1]s + interval '1 hour' END"
		}
		if strings.Contains(edit, "%") {
			edit = fmt.Sprintf(edit, c.Name)
		}
		cells = append(cells,
			cell{table, c.Name + ": edited", fmt.Sprintf("UPDATE vault.%s SET %s = %s", table, c.Name, edit)},
			cell{table, c.Name + ": of another row", fmt.Sprintf(`CREATE TEMPORARY TABLE o AS SELECT t.ctid AS here, lag(t.%[2]s) OVER (ORDER BY t.ctid) AS theirs, row_number() OVER (ORDER BY t.ctid) AS n FROM vault.%[1]s t;
				UPDATE vault.%[1]s t SET %[2]s = o.theirs FROM o WHERE t.ctid = o.here AND o.n > 1; DROP TABLE o`, table, c.Name)},
			cell{table, c.Name + ": NULL", fmt.Sprintf("UPDATE vault.%s SET %s = NULL", table, c.Name)})
	}
	return cells
}

// TestI6_WhatSomebodyWritesIntoTheTablesIsRefused goes through every column of every table that carries authority, and through whole rows and
// tables: whatever is done to it, every answer is what it was, or the process fails closed with an alarm; one that has been serving as well as
// one that starts now.
func TestI6_WhatSomebodyWritesIntoTheTablesIsRefused(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts a process for each cell")
	}
	w := newWorld(t)
	var cells []cell
	for _, table := range authority {
		cells = append(cells, columnCells(t, w.DB, table)...)
		cells = append(cells,
			cell{table, "a row is gone", fmt.Sprintf("DELETE FROM vault.%[1]s WHERE ctid = (SELECT max(ctid) FROM vault.%[1]s)", table)},
			cell{table, "all rows are gone", "TRUNCATE vault." + table + " CASCADE"},
			cell{table, "older rows are put back", fmt.Sprintf("DELETE FROM vault.%[1]s; INSERT INTO vault.%[1]s SELECT * FROM public.older_%[1]s", table)})
	}
	cells = append(cells, w.insertions()...)
	for _, c := range cells {
		// A process that starts now can't know of a secret whose row is gone, or bears another name: docs/threat-model.md names it.
		vanishes := c.table == "secrets" && slices.Contains([]string{"name: edited", "a row is gone", "all rows are gone"}, c.what)
		t.Run(c.table+"/"+c.what, func(t *testing.T) { w.hold(t, c, !vanishes) })
	}
	t.Run("everything/older rows are put back", func(t *testing.T) {
		var sql []string
		for _, table := range authority {
			sql = append(sql, fmt.Sprintf("DELETE FROM vault.%[1]s; INSERT INTO vault.%[1]s SELECT * FROM public.older_%[1]s", table))
		}
		// A process that starts now can't know: docs/threat-model.md names it.
		w.hold(t, cell{"everything", "older rows are put back", strings.Join(sql, ";")}, false)
	})
	if w.held > len(cells) && w.changes < leastChanges {
		t.Errorf("%d changes of forged secrets were tried, want %d", w.changes, leastChanges)
	}
	t.Log("\n" + w.report.String())
}

// insertions are rows that nobody but the vault may add.
func (w *world) insertions() []cell {
	token := fmt.Sprintf(`INSERT INTO vault.admin_tokens (id, name, role_id, token_sha256, created_at, mac, key_id)
		SELECT gen_random_uuid(), 'stray', r.id, '\x%x', t.created_at, t.mac, t.key_id
		FROM vault.admin_tokens t, vault.roles r WHERE r.is_admin AND t.name = 'bootstrap'`, w.stray[:])
	return []cell{
		{"admin_tokens", "a row for a well-formed token", token},
		{"admin_tokens", "a row for a well-formed token, and an epoch more", token + "; UPDATE vault.authz_state SET epoch = epoch + 1"},
		{"admin_tokens", "moved to the role admin", "UPDATE vault.admin_tokens SET role_id = (SELECT id FROM vault.roles WHERE is_admin)"},
		{"admin_tokens", "no longer revoked", "UPDATE vault.admin_tokens SET revoked_at = NULL"},
		{"roles", "a row", "INSERT INTO vault.roles SELECT gen_random_uuid(), 'stray', description, true, created_at, mac, key_id FROM vault.roles LIMIT 1"},
		{"role_permissions", "a row", "INSERT INTO vault.role_permissions SELECT role_id, '*', '*', mac, key_id FROM vault.role_permissions LIMIT 1"},
		{"secrets", "a row", `INSERT INTO vault.secrets (id, name, kind, format, current_version, mac, key_id)
			SELECT gen_random_uuid(), 'a/stray', kind, format, 1, mac, key_id FROM vault.secrets LIMIT 1`},
		{"secret_versions", "a row", `INSERT INTO vault.secret_versions SELECT secret_id, 9, gen_random_uuid(), 'superseded', kms_key_id, wrapped_dek, nonce,
			ciphertext, created_at, now() + interval '1 hour', wrapped_at, mac, key_id FROM vault.secret_versions WHERE version = 1`},
		{"deleted_secrets", "a row", "INSERT INTO vault.deleted_secrets SELECT id, name, revision + 1, now(), mac, key_id FROM vault.secrets"},
	}
}

// hold does what a cell says, and holds every answer of both processes against what it was before.
func (w *world) hold(t *testing.T, c cell, cold bool) {
	t.Helper()
	w.held++
	before := w.alarms(t, w.MetricsURL)
	if refused := w.tamper(t, c.sql); refused != "" {
		w.report.WriteString(fmt.Sprintf("%-18s %-48s refused by PostgreSQL: %s\n", c.table, c.what, refused))
		return
	}
	if changed, reason := w.touched(t) > 0, pointless[c.table+"/"+c.what]; changed == (reason != "") {
		t.Errorf("it changed something: %v; a reason why it can't: %q", changed, reason)
	}
	outcome := func(url, metrics string, before float64) string {
		failed := 0
		for i, q := range w.questions {
			got := w.ask(t, url, q)
			if got == w.answers[i] {
				continue
			}
			if !strings.HasPrefix(got, fmt.Sprint(http.StatusInternalServerError)) && !strings.HasPrefix(got, fmt.Sprint(http.StatusServiceUnavailable)) {
				t.Errorf("I6: %s answers %s, and did %s", q, got, w.answers[i])
			}
			failed++
		}
		if failed == 0 {
			return "no effect"
		}
		if w.alarms(t, metrics) == before {
			t.Errorf("%d answers are refused without an alarm", failed)
		}
		w.refusesChanges(t, url, metrics)
		return fmt.Sprintf("%d of %d refused", failed, len(w.questions))
	}
	warm := outcome(w.URL, w.MetricsURL, before)
	started := "-"
	if cold {
		started = w.starting(t, func(url, metrics string) string { return outcome(url, metrics, 0) })
	}
	w.report.WriteString(fmt.Sprintf("%-18s %-48s serving: %-16s starting: %s\n", c.table, c.what, warm, started))
	w.putBack(t)
	for i, q := range w.questions {
		if got := w.ask(t, w.URL, q); got != w.answers[i] {
			t.Fatalf("undone, %s answers %s, and did %s", q, got, w.answers[i])
		}
	}
}
