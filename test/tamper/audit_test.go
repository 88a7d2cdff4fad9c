package tamper

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/cli"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
)

// leaves lists the partitions of the audit log, by name.
func (b *bench) leaves(t *testing.T) []string {
	t.Helper()
	return pgtest.Query[string](t, b.DB, `
		SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'vault.audit_log'::regclass ORDER BY 1`)
}

func (b *bench) records(t *testing.T) []string {
	t.Helper()
	return pgtest.Query[string](t, b.DB, "SELECT l::text FROM vault.audit_log l WHERE request_id LIKE 'kept-%' ORDER BY 1")
}

// work makes records, whose request ids begin with "kept-".
func (b *bench) work(t *testing.T) {
	t.Helper()
	kept := func(i int) sealkeeptest.RequestOption {
		return sealkeeptest.WithHeader("X-Request-Id", fmt.Sprintf("kept-%d", i))
	}
	b.Do(t, http.MethodPost, "/v1/secrets", object{"name": "kept/key", "kind": "manual", "value": "a value"}, kept(1)).Want(t, http.StatusCreated)
	b.Do(t, http.MethodGet, path("kept/key"), nil, kept(2)).Want(t, http.StatusOK)
	b.Do(t, http.MethodPut, path("kept/key"), object{"value": "another"}, kept(3)).Want(t, http.StatusOK)
	b.Do(t, http.MethodGet, path("kept/missing"), nil, kept(4)).Want(t, http.StatusNotFound)
	b.Do(t, http.MethodGet, "/v1/status", nil, kept(5), sealkeeptest.WithToken("")).Want(t, http.StatusUnauthorized)
}

// TestI10_TheTrailOfARunningVaultIsNotRewritten tries to, with all rights that PostgreSQL has to give.
func TestI10_TheTrailOfARunningVaultIsNotRewritten(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.work(t)
	before := b.records(t)
	leaves := b.leaves(t)
	if len(before) != 5 || len(leaves) < 8 {
		t.Fatalf("%d records in %d partitions", len(before), len(leaves))
	}
	conn := b.DB.Super(t)
	for _, role := range []string{"NONE", "vault_owner"} {
		if _, err := conn.Exec(t.Context(), "SET ROLE "+role); err != nil {
			t.Fatal(err)
		}
		for _, table := range append([]string{"vault.audit_log"}, leaves...) {
			for _, sql := range []string{
				"UPDATE %s SET outcome = 'ok'", "UPDATE %s SET outcome = 'ok' WHERE false", "DELETE FROM %s", "TRUNCATE %s", "TRUNCATE %s CASCADE",
			} {
				sql = fmt.Sprintf(sql, table)
				if _, err := conn.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "audit is append-only") {
					t.Errorf("I10: with role %s, %s: %v", role, sql, err)
				}
			}
		}
	}
	if after := b.records(t); !slices.Equal(before, after) {
		t.Errorf("the records have changed:\n%s\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	b.VerifyClean(t)
}

// record is where an audit record lies.
type record struct {
	Stream string
	Seq    int64
	Leaf   string
}

// rewrite switches the triggers off, runs SQL on a partition, and switches them on again.
func (b *bench) rewrite(t *testing.T, leaf, sql string) {
	t.Helper()
	b.DB.Exec(t, fmt.Sprintf(`
		BEGIN; ALTER TABLE vault.audit_log DISABLE TRIGGER append_only;
		ALTER TABLE %[1]s DISABLE TRIGGER append_only;
		%[2]s;
		ALTER TABLE %[1]s ENABLE ALWAYS TRIGGER append_only;
		ALTER TABLE vault.audit_log ENABLE ALWAYS TRIGGER append_only; COMMIT`, leaf, sql))
}

// TestI10_WhatIsRewrittenWithoutTheTriggersIsNamed does what only switching the triggers off allows, and undoes it.
func TestI10_WhatIsRewrittenWithoutTheTriggersIsNamed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.work(t)
	var target record
	for _, id := range []string{"kept-2", "kept-3", "kept-5"} {
		target = pgtest.Query[record](t, b.DB, "SELECT stream_id::text, seq, tableoid::regclass::text FROM vault.audit_log WHERE request_id = $1", id)[0]
		here := fmt.Sprintf("stream_id = '%s' AND seq = %d", target.Stream, target.Seq)
		b.DB.Exec(t, "DROP TABLE IF EXISTS public.kept; CREATE TABLE public.kept AS SELECT * FROM vault.audit_log WHERE "+here)
		b.isClean(t)
		for what, edit := range map[string]string{
			"who":        "actor = 'token:somebody'",
			"from where": "client_ip = '198.51.100.7'",
			"nowhere":    "client_ip = NULL",
			"what":       "action = 'secret.list'",
			"on what":    "secret_name = 'kept/other'",
			"a version":  "version = coalesce(version, 0) + 1",
			"how":        "outcome = CASE outcome WHEN 'ok' THEN 'denied' ELSE 'ok' END",
			"which":      "request_id = 'kept-9'",
			"when":       "at = at + interval '1 microsecond'",
			"a trace":    "trace_id = 'ab'",
			"a detail":   `detail = '{"x":1}'`,
			"the mac":    "mac = set_byte(mac, 0, get_byte(mac, 0) # 1)",
			"the key":    "key_id = gen_random_uuid()",
		} {
			t.Run(what+" of "+id, func(t *testing.T) {
				b.rewrite(t, target.Leaf, "UPDATE vault.audit_log SET "+edit+" WHERE "+here)
				b.isNamed(t, target, target.Seq)
				b.putBack(t, target, here)
				b.isClean(t)
			})
		}
		t.Run("all of "+id, func(t *testing.T) {
			b.rewrite(t, target.Leaf, "DELETE FROM vault.audit_log WHERE "+here)
			b.isNamed(t, target, target.Seq)
			b.putBack(t, target, here)
			b.isClean(t)
		})
	}
	t.Run("a record that nobody wrote", func(t *testing.T) {
		forged := "request_id = 'forged'"
		b.rewrite(t, target.Leaf, "INSERT INTO vault.audit_log SELECT (json_populate_record(k, '{\"request_id\": \"forged\", \"seq\": 1000000}')).* FROM public.kept k")
		b.isNamed(t, target, 0)
		b.rewrite(t, target.Leaf, "DELETE FROM vault.audit_log WHERE "+forged)
		b.isClean(t)
	})
	t.Run("unless nothing can be checked", func(t *testing.T) {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		closed := listener.Addr().String()
		_ = listener.Close()
		status, out := b.command(t, "postgres://sealkeep_operator@"+closed+"/vault?sslmode=disable")
		if status != 2 || !strings.Contains(out, "can't be reached") {
			t.Errorf("without a database the command ends with %d: %s", status, out)
		}
	})
}

func (b *bench) putBack(t *testing.T, at record, here string) {
	t.Helper()
	b.rewrite(t, at.Leaf, "DELETE FROM vault.audit_log WHERE "+here+"; INSERT INTO vault.audit_log SELECT * FROM public.kept")
}

// isNamed requires that verification and the command name the record first, or at 0 any of its stream, and no other stream.
func (b *bench) isNamed(t *testing.T, at record, seq int64) {
	t.Helper()
	report := b.Verify(t)
	astray := func(p audit.Problem) bool { return p.StreamID.String() != at.Stream || p.Seq < seq }
	if len(report.Problems) == 0 || seq > 0 && report.Problems[0].Seq != seq || slices.ContainsFunc(report.Problems, astray) {
		t.Errorf("I10: named %+v, want record %d of %s", report.Problems, seq, at.Stream)
	}
	status, out := b.command(t, b.DB.URL("sealkeep_operator"))
	want := "first bad record: stream " + at.Stream
	if seq > 0 {
		want += fmt.Sprintf(" seq %d:", seq)
	}
	if status != 1 || !strings.Contains(out, want) || !strings.Contains(out, "TAMPERING") {
		t.Errorf("I10: the command ends with %d: %s", status, out)
	}
}

func (b *bench) isClean(t *testing.T) {
	t.Helper()
	b.VerifyClean(t)
	if status, out := b.command(t, b.DB.URL("sealkeep_operator")); status != 0 || !strings.Contains(out, "every record is accounted for") {
		t.Errorf("the command ends with %d: %s", status, out)
	}
}

// command runs `sealkeep audit verify --database` and returns its exit status and what it said.
func (b *bench) command(t *testing.T, database string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	environ := b.OfflineEnviron()
	environ["VAULT_DATABASE_URL"] = database
	status := cli.Run(t.Context(), cli.Invocation{
		Program: "sealkeep", Args: []string{"audit", "verify", "--database"}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out,
		Environ: environ,
	})
	return status, out.String()
}
