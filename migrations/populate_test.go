package migrations_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// relations lists every table of the schema, qualified and quoted: partitioned tables, and with leaves their
// partitions, by the catalogue.
func relations(t *testing.T, d *pgtest.Database) []string {
	t.Helper()
	all := pgtest.Query[string](t, d, `
		SELECT format('vault.%I', relname) FROM pg_class
		WHERE relnamespace = 'vault'::regnamespace AND relkind IN ('r', 'p', 'f', 'v', 'm') ORDER BY 1`)
	if len(all) < 20 {
		t.Fatalf("the catalogue lists only %q", all)
	}
	return all
}

// leaves lists the partitions of the audit log, by name.
func leaves(t *testing.T, d *pgtest.Database) []string {
	t.Helper()
	all := pgtest.Query[string](t, d, `
		SELECT format('vault.%I', c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'vault.audit_log'::regclass ORDER BY 1`)
	if len(all) < 9 {
		t.Fatalf("the catalogue lists only the partitions %q", all)
	}
	return all
}

// column is what the catalogue tells of a column that a row must fill.
type column struct {
	Table, Name, Type string
	Checks            string // definitions of the checks that mention it, and the table's triggers that check
	Parent            string // the table that it refers to, or ""
	ParentColumn      string
	Bounds            string // of the partition, or ""
}

// populate makes sure that every table holds a row, every partition too, by the superuser. The values are made from
// the catalogue, so that a new table is populated without being named here; one that can't be fails the test.
func populate(t *testing.T, d *pgtest.Database) {
	t.Helper()
	columns := pgtest.Query[column](t, d, `
		SELECT format('vault.%I', c.relname), quote_ident(a.attname), format_type(CASE y.typtype WHEN 'd' THEN y.typbasetype ELSE y.oid END, NULL),
		       coalesce((SELECT string_agg(pg_get_constraintdef(k.oid), ' ') FROM pg_constraint k
		                 WHERE k.conrelid = c.oid AND k.contype = 'c' AND a.attnum = ANY (k.conkey)), '')
		       || coalesce((SELECT replace(pg_get_constraintdef(k.oid), 'VALUE', a.attname) FROM pg_constraint k WHERE k.contypid = y.oid), '')
		       || coalesce((SELECT string_agg(f.prosrc, ' ') FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
		                    WHERE t.tgrelid = c.oid AND t.tgname = 'sound'), ''),
		       coalesce(f.confrelid::regclass::text, ''), coalesce(quote_ident(p.attname), ''),
		       coalesce(pg_get_expr(c.relpartbound, c.oid), '')
		FROM pg_class c
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		JOIN pg_type y ON y.oid = a.atttypid
		LEFT JOIN pg_constraint f ON f.conrelid = c.oid AND f.contype = 'f' AND f.conkey = ARRAY[a.attnum]
		LEFT JOIN pg_attribute p ON p.attrelid = f.confrelid AND p.attnum = f.confkey[1]
		WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind = 'r'
		  AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
		ORDER BY 1, a.attnum`)
	byTable := map[string][]column{}
	for _, c := range columns {
		byTable[c.Table] = append(byTable[c.Table], c)
	}
	done := map[string]bool{}
	for len(done) < len(byTable) {
		before := len(done)
		for table, columns := range byTable {
			missing := slices.ContainsFunc(columns, func(c column) bool { return c.Parent != "" && !done[c.Parent] })
			if done[table] || missing {
				continue
			}
			names, values := make([]string, len(columns)), make([]string, len(columns))
			for i, c := range columns {
				names[i], values[i] = c.Name, c.value(t)
			}
			d.Exec(t, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s WHERE NOT EXISTS (SELECT FROM %s)",
				table, strings.Join(names, ", "), strings.Join(values, ", "), table))
			done[table] = true
		}
		if len(done) == before {
			t.Fatalf("the tables refer to one another in a circle; populated so far: %v", done)
		}
	}
	// The positive control of everything that then sees no row.
	for _, table := range relations(t, d) {
		if n := pgtest.Query[int](t, d, "SELECT count(*) FROM "+table)[0]; n == 0 {
			t.Fatalf("%s is still empty", table)
		}
	}
}

var (
	oneOf  = regexp.MustCompile(`ARRAY\['([^']*)'::text`)
	noneOf = regexp.MustCompile(`NEW\.(\w+) NOT IN \('([^']*)'`)
	octets = regexp.MustCompile(`octet_length\((?:NEW\.)?(\w+)\) (?:=|<>) (\d+)`)
	lower  = regexp.MustCompile(`FROM \('([^']*)'\)`)
)

// value returns an expression for a value that the column's type, checks and references allow.
func (c column) value(t *testing.T) string {
	t.Helper()
	switch {
	case c.Parent != "":
		return fmt.Sprintf("(SELECT %s FROM %s LIMIT 1)", c.ParentColumn, c.Parent)
	case c.Bounds != "" && c.Type == "timestamp with time zone":
		return "'" + lower.FindStringSubmatch(c.Bounds)[1] + "'::timestamptz"
	}
	switch c.Type {
	case "text":
		if word := oneOf.FindStringSubmatch(c.Checks); word != nil {
			return "'" + word[1] + "'"
		}
		for _, word := range noneOf.FindAllStringSubmatch(c.Checks, -1) {
			if word[1] == c.Name {
				return "'" + word[2] + "'"
			}
		}
		return "'x'"
	case "bytea":
		length := "1"
		for _, check := range octets.FindAllStringSubmatch(c.Checks, -1) {
			if check[1] == c.Name {
				length = check[2]
			}
		}
		return fmt.Sprintf("decode(repeat('2a', %s), 'hex')", length)
	case "uuid":
		return "gen_random_uuid()"
	case "bigint", "integer":
		return "1"
	case "boolean":
		return "true"
	case "timestamp with time zone":
		return "now()"
	case "inet":
		return "'192.0.2.1'::inet"
	}
	t.Fatalf("no value is known for a column of type %s: %s.%s", c.Type, c.Table, c.Name)
	return ""
}
