package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// Whether what is due has its job is looked up by the secret, whatever the statistics say: here that there are no jobs, as when thousands
// fall due at once on a vault where nothing was rotated before.
func TestJobsAreMadeByLookingUpWhetherThereIsOne(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	d.Exec(t, "ANALYZE vault.secrets, vault.rotation_jobs")
	database := openWith(t, postgres.Config{ConnString: d.URL("sealkeep_rotator"), MaxConns: 1}) // its one session is looked into
	if _, err := database.Pool().Exec(t.Context(), "SET plan_cache_mode = force_generic_plan"); err != nil {
		t.Fatal(err)
	}
	if _, err := database.EnqueueDue(t.Context(), 500); err != nil {
		t.Fatal(err)
	}
	var name string
	err := database.Pool().QueryRow(t.Context(), "SELECT name FROM pg_prepared_statements WHERE statement LIKE '%EnqueueDue%' AND statement NOT LIKE '%pg_prepared%'").Scan(&name)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := database.Pool().Query(t.Context(), "EXPLAIN EXECUTE "+pgx.Identifier{name}.Sanitize()+"(500)")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	plan := strings.Join(lines, "\n")
	if err != nil || !strings.Contains(plan, "SubPlan") || strings.Contains(plan, "Join") || strings.Contains(plan, "Seq Scan") {
		t.Errorf("%v\n%s", err, plan)
	}
}
