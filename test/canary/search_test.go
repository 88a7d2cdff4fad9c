package canary

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// finds tells, of what was found, where.
type finds map[string][]string

func (f finds) add(where string, found []string) {
	for _, what := range found {
		if !slices.Contains(f[what], where) {
			f[what] = append(f[what], where)
		}
	}
}

// planted is the beginning of the names of what was put there on purpose, to be found.
const planted = "planted: "

// none fails the test for everything that was found but what was planted.
func (f finds) none(t *testing.T) {
	t.Helper()
	for what, where := range f {
		if !strings.HasPrefix(what, planted) {
			t.Errorf("I1: %s is in %s", what, strings.Join(where, ", "))
		}
	}
}

// in tells whether something planted was found, in whatever form, in a place whose name begins with where.
func (f finds) in(what, where string) bool {
	for name, places := range f {
		if name != planted+what && !strings.HasPrefix(name, planted+what+" in ") {
			continue
		}
		if slices.ContainsFunc(places, func(place string) bool { return strings.HasPrefix(place, where) }) {
			return true
		}
	}
	return false
}

type table struct {
	Name   string
	Binary []string // its columns of type bytea, quoted
}

// searchRows searches every row of every table of every schema but the catalogues, as text and each bytea as it is. It
// returns the tables that it searched and how many rows they had.
func searchRows(t *testing.T, d *pgtest.Database, n *needles) (found finds, rows map[string]int) {
	t.Helper()
	tables := pgtest.Query[table](t, d, `
		SELECT format('%I.%I', s.nspname, c.relname),
		       ARRAY(SELECT quote_ident(attname) FROM pg_attribute
		             WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND atttypid = 'bytea'::regtype ORDER BY attnum)
		FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f') AND s.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
		ORDER BY 1`)
	conn := d.Super(t)
	found, rows = finds{}, map[string]int{}
	for _, table := range tables {
		columns := append([]string{"convert_to(r::text, 'UTF8')"}, table.Binary...)
		result, err := conn.Query(t.Context(), fmt.Sprintf("SELECT %s FROM %s AS r", strings.Join(columns, ", "), table.Name))
		if err != nil {
			t.Fatal(err)
		}
		_, err = pgx.CollectRows(result, func(row pgx.CollectableRow) (struct{}, error) {
			for _, cell := range row.RawValues() {
				found.add(table.Name, n.find(cell))
			}
			rows[table.Name]++
			return struct{}{}, nil
		})
		if err != nil {
			t.Fatalf("reading %s: %v", table.Name, err)
		}
	}
	return found, rows
}

// searchFiles searches every file of a folder, and returns how many bytes that was by the name of its folder.
func searchFiles(t *testing.T, dir string, n *needles) (found finds, size map[string]int) {
	t.Helper()
	found, size = finds{}, map[string]int{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		found.add(name, n.find(content))
		folder, _, _ := strings.Cut(name, string(filepath.Separator))
		size[folder] += len(content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, size
}
