package postgres

import (
	"context"
	_ "embed" // for guardList
	"fmt"
	"strings"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// guardList is what this release's migrations make, one guard a line; a test holds it against a database that was just migrated, and
// writes it with -update. What a database says of itself would prove nothing: who drops a guard can edit that, too.
//
//go:embed guards.txt
var guardList string

// anyLeaf stands in the list for each of the trail's daily partitions.
const anyLeaf = "audit_log_DAY"

type guardKey struct{ kind, table, name string }

func (k guardKey) String() string {
	if k.table == "" {
		return fmt.Sprintf("the %s vault.%s", k.kind, k.name)
	}
	return fmt.Sprintf("the %s %s of vault.%s", k.kind, k.name, k.table)
}

// Unguarded tells which of the guards of rows and records that the schema has are missing, changed or not the schema's: row security,
// policies, triggers, constraints, unique indexes, functions. A constraint's or an index's own definition isn't looked at.
func (s *Snapshot) Unguarded(ctx context.Context) (problems []string, err error) {
	open, err := s.OpenTables(ctx)
	if err != nil {
		return nil, err
	}
	for _, table := range open {
		problems = append(problems, fmt.Sprintf("row security of vault.%s is off, or not forced on its owner", table))
	}
	leaves, err := s.AuditPartitions(ctx)
	if err != nil {
		return nil, err
	}
	found, err := s.Guards(ctx)
	if err != nil {
		return nil, err
	}
	return append(problems, compareGuards(wantedGuards(leaves), found)...), nil
}

// wantedGuards is the list with each day's partition in the place of the one that stands for all.
func wantedGuards(leaves []string) []db.GuardsRow {
	var wanted []db.GuardsRow
	for line := range strings.Lines(guardList) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		row := db.GuardsRow{Kind: fields[0], TableName: fields[1], Name: fields[2], Definition: fields[3]}
		if row.TableName != anyLeaf {
			wanted = append(wanted, row)
			continue
		}
		for _, leaf := range leaves {
			of := row
			of.TableName, of.Name = leaf, strings.ReplaceAll(row.Name, anyLeaf, leaf)
			wanted = append(wanted, of)
		}
	}
	return wanted
}

func compareGuards(wanted, found []db.GuardsRow) (problems []string) {
	there := map[guardKey]string{}
	for _, row := range found {
		there[guardKey{row.Kind, row.TableName, row.Name}] = row.Definition
	}
	for _, row := range wanted {
		key := guardKey{row.Kind, row.TableName, row.Name}
		switch definition, known := there[key]; {
		case !known:
			problems = append(problems, key.String()+" is missing")
		case definition != row.Definition:
			problems = append(problems, key.String()+" isn't as the schema has it")
		}
		delete(there, key)
	}
	for key := range there {
		problems = append(problems, key.String()+" isn't the schema's")
	}
	return problems
}
