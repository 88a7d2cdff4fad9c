package postgres_test

import (
	"context"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

var update = flag.Bool("update", false, "write guards.txt")

func TestGuards_AreListedAsTheMigrationsMakeThem(t *testing.T) {
	t.Parallel()
	d, err := postgres.Open(t.Context(), postgres.Config{ConnString: pgtest.New(t).URL("sealkeep_operator"), Process: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var lines []string
	err = d.Snapshot(t.Context(), func(s *postgres.Snapshot) error {
		found, err := s.Guards(context.Background())
		for _, row := range found {
			table, name := row.TableName, row.Name
			if strings.HasPrefix(table, "audit_log_2") {
				table, name = postgres.AnyLeaf, strings.ReplaceAll(name, table, postgres.AnyLeaf)
			}
			fields := []string{row.Kind, table, name, row.Definition}
			line := strings.Join(fields, "\t")
			if strings.Count(line, "\t") != 3 || strings.Contains(line, "\n") {
				t.Errorf("%q can't be a line of the list", fields)
			}
			lines = append(lines, line+"\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	list := strings.Join(slices.Compact(lines), "")
	if *update {
		if err := os.WriteFile("guards.txt", []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if list != postgres.GuardList {
		t.Error("guards.txt isn't what the migrations make: run this test with -update, and look at what has changed")
	}
	for _, kind := range []string{"trigger\taudit_log_DAY\tappend_only", "policy\taudit_log\ttrue_time\tRESTRICTIVE", "constraint\t", "unique index\t", "function\t\trefuse_audit_rewrite"} {
		if !strings.Contains(postgres.GuardList, kind) {
			t.Errorf("guards.txt has nothing with %q", kind)
		}
	}
}
