package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// crime is a trail of every kind of stream, in the hands of a superuser who has switched off whatever the database does against
// rewriting: what is left is verification.
type crime struct {
	*fixture
	beta *Trail // still running; its heartbeats saw everything
}

func newCrime(t *testing.T) *crime {
	t.Helper()
	c := &crime{fixture: setup(t)}
	alpha, beta := c.beating("alpha"), c.beating("beta")
	c.beta = beta
	full := record("full")
	full.TraceID, full.Detail = "0af7651916cd43dd8448eb211c80319c", []byte(`{"a":1}`)
	for _, trail := range []*Trail{alpha, beta} {
		for i := range 3 {
			full.RequestID = fmt.Sprintf("full-%s-%d", trail.cfg.Process, i)
			must(t, trail.Append(t.Context(), full, Record{Actor: "anonymous", Action: "secret.read", Outcome: "denied", RequestID: "bare"}))
		}
		for i := range 3 {
			must(t, trail.Change(t.Context(), addRole(fmt.Sprintf("%s-%d", trail.cfg.Process, i))))
		}
		trail.Deny(t.Context(), denial(here, "denied"))
	}
	must(t, c.api.InTx(t.Context(), func(tx *postgres.Tx) error {
		return AppendOffline(t.Context(), tx, c.keys, c.vaultID, "command", nil, record("offline-1"), record("offline-2"))
	}))
	// A stream that took another's place, and one on which nothing was written yet.
	c.reap(c.streams(kindRead)[0].ID)
	must(t, alpha.Append(t.Context(), full))
	idle := c.beating("idle")
	for _, trail := range []*Trail{alpha, beta, alpha, beta} {
		trail.beat(t.Context(), &pulse{})
	}
	alpha.reads.ready.Store(false) // it is finished, but its streams are open, as after a crash
	idle.reads.ready.Store(false)

	c.db.Exec(t, `DO $$
	DECLARE r record;
	BEGIN
		FOR r IN SELECT c.oid::regclass AS t FROM pg_class c WHERE c.relnamespace = 'vault'::regnamespace
		         AND c.relkind IN ('r', 'p') AND c.relname LIKE 'audit\_%' LOOP
			EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', r.t);
		END LOOP;
		FOR r IN SELECT conrelid::regclass AS t, conname FROM pg_constraint
		         WHERE conrelid IN ('vault.audit_log'::regclass, 'vault.audit_streams'::regclass) AND contype IN ('c', 'p') LOOP
			EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', r.t, r.conname);
		END LOOP;
	END $$;
	CREATE TABLE vault.original_log AS SELECT * FROM vault.audit_log;
	CREATE TABLE vault.original_streams AS SELECT * FROM vault.audit_streams;`)
	c.clean()
	return c
}

func (c *crime) undo() {
	c.t.Helper()
	c.db.Exec(c.t, `DELETE FROM vault.audit_log; INSERT INTO vault.audit_log SELECT * FROM vault.original_log;
		DELETE FROM vault.audit_streams; INSERT INTO vault.audit_streams SELECT * FROM vault.original_streams;`)
}

// commit runs an edit and tells whether it changed anything at all.
func (c *crime) commit(sql string, args ...any) bool {
	c.t.Helper()
	c.db.Exec(c.t, sql, args...)
	return one[bool](c.fixture, `SELECT EXISTS (
		(TABLE vault.audit_log EXCEPT TABLE vault.original_log) UNION ALL (TABLE vault.original_log EXCEPT TABLE vault.audit_log))
	OR EXISTS (
		(TABLE vault.audit_streams EXCEPT TABLE vault.original_streams) UNION ALL (TABLE vault.original_streams EXCEPT TABLE vault.audit_streams))
	OR (SELECT count(*) FROM vault.audit_log) <> (SELECT count(*) FROM vault.original_log)
	OR (SELECT count(*) FROM vault.audit_streams) <> (SELECT count(*) FROM vault.original_streams)`)
}

// found tells whether verification names a stream, and there one of the records, if any are given.
func (c *crime) found(streams []uuid.UUID, seqs ...int64) (what string, found bool) {
	c.t.Helper()
	report := c.verify()
	for _, p := range report.Problems {
		if slices.Contains(streams, p.StreamID) && (len(seqs) == 0 || slices.Contains(seqs, p.Seq)) {
			return fmt.Sprintf("%d: %s", p.Seq, p.What), true
		}
	}
	return fmt.Sprint(report.Problems), false
}

type column struct {
	Name string
	Type string
}

func (c *crime) columns(table string) []column {
	c.t.Helper()
	return pgtest.Query[column](c.t, c.db, `SELECT column_name::text, data_type::text FROM information_schema.columns
		WHERE table_schema = 'vault' AND table_name = $1 ORDER BY ordinal_position`, table)
}

// edits are the values that an edit gives to a column of a type. $ stands for the column.
var edits = map[string][]string{
	"uuid": {
		"gen_random_uuid()", "(SELECT stream_id FROM vault.original_streams WHERE stream_id <> $ ORDER BY stream_id LIMIT 1)",
		"(SELECT key_id FROM vault.keyring WHERE purpose = 'row')", "NULL",
	},
	"text": {
		"$ || ' '", "''", "lower($)", "upper($)", "'closed'", "'open'", "'read'", "'offline'", "repeat('x', 9999)", "NULL", "coalesce($, '')",
	},
	"bigint": {"$ + 1", "$ - 1", "-$", "0", "9223372036854775807", "NULL", "coalesce($, 0)"},
	"timestamp with time zone": {
		"$ + interval '1 microsecond'", "$ - interval '1 microsecond'", "$ + interval '1 day'", "$ - interval '1 hour'",
		"'infinity'", "'-infinity'", "'4000-01-01 BC'",
	},
	"inet": {
		"'192.0.2.8'", "set_masklen($, 24)", "('::ffff:' || host($))::inet", "'2001:db8::1'", "NULL", "coalesce($, '0.0.0.0')",
	},
	"bytea": {"set_bit($, 0, 1 - get_bit($, 0))", "$ || '\\x00'", "substr($, 2)", "'\\x'", "NULL", "coalesce($, '\\x')", "decode(repeat('00', 32), 'hex')"},
}

// target is a row that is edited.
type target struct {
	name   string
	stream uuid.UUID
	seq    int64 // of a record
}

func (c *crime) streamTargets() []target {
	c.t.Helper()
	pick := func(name, where string) target {
		return target{name: name, stream: one[uuid.UUID](c.fixture, "SELECT stream_id FROM vault.audit_streams WHERE "+where+" LIMIT 1")}
	}
	return []target{
		pick("open", "state = 'open' AND process = 'beta' AND kind = 'read'"),
		pick("empty", "head_seq = 0 AND process = 'idle' AND kind = 'read'"),
		pick("closed", "state = 'closed' AND kind = 'read'"),
		pick("offline", "kind = 'offline'"),
		pick("successor", "predecessor IS NOT NULL"),
	}
}

func (c *crime) recordTargets() []target {
	c.t.Helper()
	pick := func(name, where string) target {
		at := one[location](c.fixture, "SELECT stream_id, seq FROM vault.audit_log WHERE "+where+" ORDER BY stream_id, seq LIMIT 1")
		return target{name, at.Stream, at.Seq}
	}
	return []target{
		pick("first", "seq = 1 AND request_id = 'full-alpha-0'"),
		pick("middle", "request_id = 'full-beta-1'"),
		pick("bare", "request_id = 'bare'"),
		pick("last", "(stream_id, seq) IN (SELECT stream_id, head_seq FROM vault.audit_streams WHERE kind = 'change' AND process = 'beta')"),
		pick("heartbeat", "action = 'audit.heartbeat'"),
		pick("closing", "action = 'audit.stream_closed'"),
	}
}

// An edit of these would be found by nothing. There are none.
var unverifiable = map[string]string{}

func TestI10_EditOfAnyColumnIsFound(t *testing.T) {
	t.Parallel()
	for table, targets := range map[string]func(*crime) []target{
		"audit_log": (*crime).recordTargets, "audit_streams": (*crime).streamTargets,
	} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			c := newCrime(t)
			for _, column := range c.columns(table) {
				cells, missed := 0, 0
				for _, target := range targets(c) {
					for _, edit := range c.possible(column) {
						took, found, what := c.edit(table, column, target, edit)
						if took {
							cells++
							t.Logf("%s.%s of the %s one = %s: %s", table, column.Name, target.name, edit, what)
						}
						if took && !found {
							missed++
							if _, known := unverifiable[table+"."+column.Name]; !known {
								t.Errorf("%s.%s of the %s one = %s is not found: %s", table, column.Name, target.name, edit, what)
							}
						}
					}
				}
				if _, known := unverifiable[table+"."+column.Name]; cells == 0 || known && missed == 0 {
					t.Errorf("%s.%s: %d edits took effect, %d were not found", table, column.Name, cells, missed)
				}
			}
			c.clean()
		})
	}
}

// possible leaves out what the column's type or the driver's prevents: setting what can't be null to null.
func (c *crime) possible(col column) []string {
	c.t.Helper()
	all, known := edits[col.Type]
	if !known {
		c.t.Fatalf("nothing is known of editing a %s", col.Type)
	}
	return all
}

func (c *crime) edit(table string, col column, at target, edit string) (took, found bool, what string) {
	c.t.Helper()
	defer c.undo()
	where, args := "stream_id = $1", []any{at.stream}
	if at.seq > 0 {
		where, args = "stream_id = $1 AND seq = $2", []any{at.stream, at.seq}
	}
	sql := fmt.Sprintf("UPDATE vault.%s SET %s = %s WHERE %s", table, col.Name, strings.ReplaceAll(edit, "$", col.Name), where)
	// An edit that the table can't hold (null where there must be something, no partition) is none.
	if _, err := c.db.Super(c.t).Exec(context.Background(), sql, args...); err != nil {
		return false, false, err.Error()
	}
	if !c.commit("SELECT") {
		return false, false, "no change"
	}
	streams := []uuid.UUID{at.stream}
	if at.seq == 0 {
		what, found = c.found(streams)
		return true, found, what
	}
	// A record that got another number is missed under its own, or in the way under the other.
	seqs := pgtest.Query[int64](c.t, c.db, "SELECT seq FROM vault.audit_log EXCEPT SELECT seq FROM vault.original_log")
	seqs = append(seqs, at.seq)
	if col.Name == "seq" {
		seqs = append(seqs, at.seq-1, at.seq+1)
	}
	what, found = c.found(streams, seqs...)
	return true, found, what
}
