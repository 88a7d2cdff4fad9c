package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// Whether what is due has its job is looked up by the secret, whatever the statistics say: here that there are no jobs, as when thousands
// fall due at once on a vault where nothing was rotated before.
func TestJobsAreMadeByLookingUpWhetherThereIsOne(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	d.Exec(t, "ANALYZE vault.secrets, vault.rotation_jobs")
	conn, err := pgx.Connect(t.Context(), d.URL(pgtest.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	queries := db.New(conn)
	for _, sql := range []string{"SET plan_cache_mode = force_generic_plan", "BEGIN"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := queries.PlanByKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := queries.EnqueueDue(t.Context(), 500); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	var name string
	err = conn.QueryRow(t.Context(), "SELECT name FROM pg_prepared_statements WHERE statement LIKE '%EnqueueDue%' AND statement NOT LIKE '%pg_prepared%'").Scan(&name)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), "EXPLAIN EXECUTE "+pgx.Identifier{name}.Sanitize()+"(500)")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	plan := strings.Join(lines, "\n")
	if err != nil || !strings.Contains(plan, "SubPlan") || strings.Contains(plan, "Join") || strings.Contains(plan, "Seq Scan") {
		t.Errorf("%v\n%s", err, plan)
	}
}
