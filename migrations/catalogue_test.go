package migrations_test

import (
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/migrations"
)

func TestFunctions_PinTheirSearchPathAndBelongToNobodyElse(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	type function struct {
		Name, Source string
		Definer      bool
		Settings     []string
		Public       bool
	}
	functions := pgtest.Query[function](t, d, `
		SELECT p.oid::regprocedure::text, prosrc, prosecdef, coalesce(proconfig, '{}'),
		       EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) AS item WHERE item.grantee = 0)
		FROM pg_proc p WHERE pronamespace = 'vault'::regnamespace ORDER BY 1`)
	definers := 0
	for _, f := range functions {
		if !slices.Contains(f.Settings, "search_path=pg_catalog, pg_temp") {
			t.Errorf("%s has the settings %q", f.Name, f.Settings)
		}
		if f.Public {
			t.Errorf("%s can be called by PUBLIC", f.Name)
		}
		if !f.Definer {
			continue
		}
		definers++
		// Row security that hides rows from the owner would hide them silently, unless it is off: then it is an error. A
		// function that reads rows can't have it off, and reads through policies that show the owner every row
		// (docs/decisions/0002-functions-that-read-rows.md).
		off := slices.Contains(f.Settings, "row_security=off")
		for _, table := range rowsOf(f.Source) {
			shown := pgtest.Query[bool](t, d, `
				SELECT EXISTS (SELECT FROM pg_policies WHERE schemaname = 'vault' AND tablename = $1 AND cmd IN ('SELECT', 'ALL')
				               AND permissive = 'PERMISSIVE' AND roles = '{vault_owner}' AND qual = 'true')
				   AND NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = 'vault' AND tablename = $1
				                   AND permissive = 'RESTRICTIVE' AND cmd <> 'INSERT')`, table)[0]
			if off || !shown {
				t.Errorf("%s reads vault.%s: row security is off %v, all of its rows are shown %v", f.Name, table, off, shown)
			}
		}
		if len(rowsOf(f.Source)) == 0 && !off {
			t.Errorf("%s reads the catalogue alone, with row security on", f.Name)
		}
	}
	if definers < 2 {
		t.Errorf("%d of the functions %v are SECURITY DEFINER", definers, functions)
	}
}

var reads = regexp.MustCompile(`(?:FROM|JOIN) vault\.(\w+)`)

// rowsOf lists the tables whose rows a function reads.
func rowsOf(source string) []string {
	var tables []string
	for _, found := range reads.FindAllStringSubmatch(source, -1) {
		tables = append(tables, found[1])
	}
	slices.Sort(tables)
	return slices.Compact(tables)
}

// Uniqueness of what is random or derived from a key would tell of equality, and fail where it must not. All of that is
// bytea; of bytea only a token's fingerprint is looked up.
func TestIndexes_NoneIsUniqueOverWhatIsMACedOrSealed(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	opaque := pgtest.Query[string](t, d, `
		SELECT DISTINCT a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND a.atttypid = 'bytea'::regtype`)
	for _, column := range []string{"mac", "head_mac", "request_mac", "nonce", "wrapped_dek", "wrapped_key", "ciphertext"} {
		if !slices.Contains(opaque, column) {
			t.Errorf("no column is called %s: the test looks for the wrong things", column)
		}
	}
	type index struct{ Name, Table, Column string }
	// By what an index depends on, so that expressions and conditions count too; a constraint's index depends on the
	// constraint alone, whose columns are those of indkey.
	indexes := pgtest.Query[index](t, d, `
		SELECT i.indexrelid::regclass::text, c.relname::text, a.attname::text
		FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.atttypid = 'bytea'::regtype
		WHERE c.relnamespace = 'vault'::regnamespace AND (i.indisunique OR i.indisexclusion)
		  AND (a.attnum = ANY (i.indkey)
		       OR EXISTS (SELECT FROM pg_depend p WHERE p.classid = 'pg_class'::regclass AND p.objid = i.indexrelid
		                  AND p.refclassid = 'pg_class'::regclass AND p.refobjid = c.oid AND p.refobjsubid = a.attnum))
		ORDER BY 1`)
	if want := []index{
		{"vault.admin_tokens_token_sha256_key", "admin_tokens", "token_sha256"}, {"vault.rotation_fetches_pkey", "rotation_fetches", "token_sha256"},
	}; !slices.Equal(indexes, want) {
		t.Errorf("unique indexes over opaque bytes: %v", indexes)
	}
}

// Times without a zone, and numbers that lose digits, would not survive being MACed.
func TestColumns_HaveTypesThatEncodeExactly(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	wrong := pgtest.Query[string](t, d, `
		SELECT format('%s.%s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod))
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type y ON y.oid = a.atttypid
		WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'schema_version'
		  AND a.attnum > 0 AND NOT a.attisdropped
		  AND (CASE y.typtype WHEN 'd' THEN y.typbasetype ELSE y.oid END) NOT IN ('uuid'::regtype, 'text'::regtype, 'bytea'::regtype, 'bigint'::regtype, 'integer'::regtype,
		                         'boolean'::regtype, 'timestamptz'::regtype, 'inet'::regtype)`)
	if len(wrong) > 0 {
		t.Errorf("columns %q", wrong)
	}
}

func TestFiles_AreNumberedWithoutGapsAndGoForward(t *testing.T) {
	t.Parallel()
	entries, err := fs.ReadDir(migrations.Files, ".")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^0*(\d+)_[a-z_]+\.sql$`)
	for i, entry := range entries {
		match := name.FindStringSubmatch(entry.Name())
		if match == nil || match[1] != strconv.Itoa(i+1) {
			t.Errorf("file %d is called %s", i+1, entry.Name())
		}
		content, err := fs.ReadFile(migrations.Files, entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`\A-- \+goose Up\n`).Match(content) || regexp.MustCompile(`\+goose (Down|NO TRANSACTION)`).Match(content) {
			t.Errorf("%s is not one step forward in one transaction", entry.Name())
		}
	}
	if len(entries) == 0 {
		t.Error("there are no migrations")
	}
}
