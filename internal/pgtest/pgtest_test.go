package pgtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/postgres"
)

func TestMain(m *testing.M) { Main(m) }

const schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'vault'"

// as returns what a query with one result gives to a user of the database.
func as(t *testing.T, address, sql string) string {
	t.Helper()
	conn, err := connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var result string
	if err := conn.QueryRow(t.Context(), sql).Scan(&result); err != nil {
		t.Fatal(err)
	}
	return result
}

func TestNew_IsMigratedAndHasTheTemplatesRights(t *testing.T) {
	t.Parallel()
	d := New(t)
	if n := Query[int](t, d, schemas)[0]; n != 1 {
		t.Error("the database is not migrated")
	}
	rights := Query[string](t, d, `
		SELECT string_agg(pg_get_userbyid(grantee) || ' ' || privilege_type, ',' ORDER BY grantee, privilege_type)
		FROM pg_database, aclexplode(datacl) WHERE datname IN ($1, $2) GROUP BY datname`,
		d.Name(), d.cluster.template())
	if len(rights) != 2 || rights[0] != rights[1] || !strings.Contains(rights[0], "vault_api CONNECT") {
		t.Errorf("the rights on the template and on the clone: %q", rights)
	}
	owner := Query[string](t, d, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", d.Name())
	if owner[0] != Migrator {
		t.Errorf("the owner is %s", owner[0])
	}
}

func TestNew_DatabasesOfParallelTestsDoNotMeet(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			d := New(t)
			d.Exec(t, "CREATE TABLE mine (id int)")
			d.Exec(t, "INSERT INTO mine VALUES ($1)", i)
			if got := Query[int](t, d, "SELECT id FROM mine"); !slices.Equal(got, []int{i}) {
				t.Errorf("the table holds %v", got)
			}
		})
	}
}

func TestNew_IsDroppedWithItsTestWhoeverIsConnected(t *testing.T) {
	t.Parallel()
	other := New(t)
	var name string
	t.Run("", func(t *testing.T) {
		d := New(t)
		name = d.Name()
		d.Super(t)
		conn, err := connect(t.Context(), d.URL("sealkeep_api"))
		if err != nil {
			t.Fatal(err)
		}
		// Closed only after the database has gone.
		other.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	})
	if n := Query[int](t, other, "SELECT count(*) FROM pg_database WHERE datname = $1", name)[0]; n != 0 {
		t.Errorf("%s is still there", name)
	}
}

func TestURL_EveryLoginConnectsAndIsInItsGroup(t *testing.T) {
	t.Parallel()
	d := New(t)
	if got := as(t, d.URL(Superuser), "SELECT current_setting('is_superuser')"); got != "on" {
		t.Error("postgres is not a superuser")
	}
	for login, group := range logins {
		sql := fmt.Sprintf("SELECT current_user || ' ' || pg_has_role('%s', 'USAGE') || ' ' || rolsuper "+
			"FROM pg_roles WHERE rolname = current_user", group)
		if got := as(t, d.URL(login), sql); got != login+" true false" {
			t.Errorf("%s: %s", login, got)
		}
	}
}

func TestTCPURL_GoesOverTCPToTheSameDatabase(t *testing.T) {
	t.Parallel()
	d := New(t)
	const sql = "SELECT current_database() || ' ' || (inet_server_addr() IS NOT NULL)"
	if got := as(t, d.TCPURL("sealkeep_api"), sql); got != d.Name()+" true" {
		t.Error(got)
	}
}

func TestNewEmpty_TheMigratorCanMigrateIt(t *testing.T) {
	t.Parallel()
	d := NewEmpty(t)
	if n := Query[int](t, d, schemas)[0]; n != 0 {
		t.Error("the database is not empty")
	}
	got := as(t, d.URL(Migrator), "SELECT rolsuper || ' ' || rolcreaterole FROM pg_roles WHERE rolname = current_user")
	if got != "false true" {
		t.Errorf("the migrator: %s", got)
	}
	if err := postgres.Migrate(t.Context(), d.URL(Migrator)); err != nil {
		t.Fatal(err)
	}
	if n := Query[int](t, d, schemas)[0]; n != 1 {
		t.Error("the database is not migrated")
	}
}

func TestQuery_ScansColumnsAndStructs(t *testing.T) {
	t.Parallel()
	d := New(t)
	type pair struct {
		Number int
		Word   string
	}
	got := Query[pair](t, d, "SELECT * FROM (VALUES (1, 'one'), (2, 'two')) AS t ORDER BY 1")
	if want := []pair{{1, "one"}, {2, "two"}}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := Query[string](t, d, "SELECT 'x' WHERE false"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestDatabase_HelpersMayBeSharedByGoroutines(t *testing.T) {
	t.Parallel()
	d := New(t)
	d.Exec(t, "CREATE TABLE many (id int); CREATE TABLE another ()")
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			d.Exec(t, "INSERT INTO many VALUES ($1)", i)
			Query[int](t, d, "SELECT id FROM many")
		})
	}
	group.Wait()
	if n := Query[int](t, d, "SELECT count(*) FROM many")[0]; n != 8 {
		t.Errorf("%d rows", n)
	}
}

func TestDatabase_HelpersSeeTablesThatChange(t *testing.T) {
	t.Parallel()
	d := New(t)
	conn := d.Super(t)
	for _, kind := range []string{"int", "text"} {
		d.Exec(t, "DROP TABLE IF EXISTS changing; CREATE TABLE changing AS SELECT '1'::"+kind+" AS value")
		var value any
		if err := conn.QueryRow(t.Context(), "SELECT value FROM changing").Scan(&value); err != nil {
			t.Error(err)
		}
	}
	if d.Super(t) != conn {
		t.Error("Super made a second connection")
	}
}

func TestNewServer_StopsCrashesAndComesBack(t *testing.T) {
	t.Parallel()
	s := NewServer(t, map[string]string{"work_mem": "5MB"})
	if got := Query[string](t, s.Database, "SELECT current_setting('work_mem')")[0]; got != "5MB" {
		t.Errorf("work_mem is %s", got)
	}
	s.Exec(t, "CREATE TABLE kept AS SELECT 'kept' AS word")
	for name, end := range map[string]func() error{
		"stop":  func() error { return s.Postgres.Stop(t.Context()) },
		"crash": s.Postgres.Kill,
	} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{s.URL("sealkeep_api"), s.TCPURL("sealkeep_api")} {
			if conn, err := pgx.Connect(t.Context(), address); err == nil {
				t.Errorf("%s: somebody answers at %s", name, address)
				_ = conn.Close(t.Context())
			}
		}
		if err := s.Postgres.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := Query[string](t, s.Database, "SELECT word FROM kept")[0]; got != "kept" {
			t.Errorf("%s: the table holds %q", name, got)
		}
		as(t, s.TCPURL("sealkeep_api"), "SELECT 'up'")
	}
}

func BenchmarkNew(b *testing.B) {
	New(b)
	b.ResetTimer()
	for range b.N {
		d := New(b)
		b.StopTimer()
		if err := d.cluster.administer("DROP DATABASE " + d.name); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
