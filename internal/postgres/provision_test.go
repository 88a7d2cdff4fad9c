package postgres_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

func TestMakeLoginRoles_MakesWhatTheProgramsNeedAsTheMigrator(t *testing.T) {
	t.Parallel()
	d := pgtest.NewServer(t, nil).Database // roles belong to a whole server
	logins := []string{"sealkeep_api", "sealkeep_rotator", "sealkeep_auditship", "sealkeep_operator"}
	d.Exec(t, "DROP ROLE "+strings.Join(logins, ", "))
	d.Exec(t, "CREATE ROLE sealkeep_api LOGIN CONNECTION LIMIT 7") // one that is there stays as it is
	for range 2 {
		if err := postgres.MakeLoginRoles(t.Context(), d.URL(pgtest.Migrator)); err != nil {
			t.Fatal(err)
		}
	}
	for _, login := range logins {
		if err := open(t, d.URL(login)).CheckSchema(t.Context()); err != nil {
			t.Errorf("%s: %v", login, err)
		}
		group := strings.Replace(login, "sealkeep_", "vault_", 1)
		type role struct {
			Groups                []string
			Powers, HasNoPassword bool
		}
		got := pgtest.Query[role](t, d, `
			SELECT ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = a.oid),
			       rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls, rolpassword IS NULL
			FROM pg_authid a WHERE rolname = $1`, login)[0]
		if len(got.Groups) != 1 || got.Groups[0] != group || got.Powers || !got.HasNoPassword {
			t.Errorf("%s is %+v", login, got)
		}
	}
	if limit := pgtest.Query[int](t, d, "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'sealkeep_api'")[0]; limit != 7 {
		t.Errorf("a login that was there has the connection limit %d", limit)
	}
	if regexp.MustCompile(`(?i)password\s*'`).MatchString(postgres.LoginRolesSQL) {
		t.Error("the SQL holds a password")
	}

	t.Run("and says so when the group roles are not there", func(t *testing.T) {
		d := pgtest.NewServer(t, nil).Database
		d.Exec(t, "ALTER ROLE vault_operator RENAME TO elsewhere")
		err := postgres.MakeLoginRoles(t.Context(), d.URL(pgtest.Migrator))
		if err == nil || !strings.Contains(err.Error(), "run `sealkeep migrate up` first") {
			t.Errorf("error %v", err)
		}
	})
}

func TestMakeDatabase_MakesItOnce(t *testing.T) {
	t.Parallel()
	d := pgtest.NewServer(t, nil).Database
	for _, name := range []string{"vault", `odd "name"; DROP TABLE x`} {
		for range 2 {
			if err := postgres.MakeDatabase(t.Context(), d.URL(pgtest.Superuser), name); err != nil {
				t.Fatal(err)
			}
		}
		if n := pgtest.Query[int](t, d, "SELECT count(*) FROM pg_database WHERE datname = $1", name)[0]; n != 1 {
			t.Errorf("there are %d databases called %s", n, name)
		}
	}
	if err := postgres.MakeDatabase(t.Context(), d.URL("sealkeep_api"), "another"); err == nil {
		t.Error("a login without CREATEDB makes a database")
	}
}
