package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

func latest(t *testing.T) int64 {
	t.Helper()
	version, err := postgres.LatestSchema()
	if err != nil || version < 5 {
		t.Fatalf("the newest version is %d, error %v", version, err)
	}
	return version
}

// applied lists the versions in the order in which they were applied.
func applied(t *testing.T, d *pgtest.Database) []int64 {
	t.Helper()
	return pgtest.Query[int64](t, d, "SELECT version_id FROM vault.schema_version ORDER BY id")
}

func upTo(version int64) []int64 {
	var versions []int64
	for v := range version + 1 { // the library begins with 0
		versions = append(versions, v)
	}
	return versions
}

// objects fingerprints what is in the schema.
func objects(t *testing.T, d *pgtest.Database) []string {
	t.Helper()
	return pgtest.Query[string](t, d, `
		SELECT 'relation ' || relname || ' ' || relkind::text || ' ' || coalesce(relacl::text, '') FROM pg_class WHERE relnamespace = 'vault'::regnamespace
		UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc WHERE pronamespace = 'vault'::regnamespace
		UNION ALL SELECT 'policy ' || tablename || ' ' || policyname FROM pg_policies WHERE schemaname = 'vault'
		UNION ALL SELECT 'trigger ' || tgrelid::regclass || ' ' || tgname FROM pg_trigger WHERE NOT tgisinternal
		ORDER BY 1`)
}

func TestMigrate_NeedsNoSuperuserAndASecondTimeDoesNothing(t *testing.T) {
	t.Parallel()
	d := pgtest.NewEmpty(t)
	type role struct{ Superuser, CreateRole, Bypasses, Owner bool }
	migrator := pgtest.Query[role](t, d, `
		SELECT rolsuper, rolcreaterole, rolbypassrls, (SELECT datdba = r.oid FROM pg_database WHERE datname = current_database())
		FROM pg_roles r WHERE rolname = $1`, pgtest.Migrator)[0]
	if migrator != (role{CreateRole: true, Owner: true}) {
		t.Fatalf("the migrator is %+v", migrator)
	}
	if err := postgres.Migrate(t.Context(), d.URL(pgtest.Migrator)); err != nil {
		t.Fatal(err)
	}
	first, versions := objects(t, d), applied(t, d)
	if !slices.Equal(versions, upTo(latest(t))) {
		t.Errorf("applied: %v", versions)
	}
	if err := postgres.Migrate(t.Context(), d.URL(pgtest.Migrator)); err != nil {
		t.Fatal(err)
	}
	if second := objects(t, d); !slices.Equal(first, second) || !slices.Equal(versions, applied(t, d)) {
		t.Errorf("there were %q and are %q; applied: %v", first, second, applied(t, d))
	}
	if err := open(t, d.URL("sealkeep_api")).CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMigrate_RunnersThatStartTogetherApplyOnce(t *testing.T) {
	t.Parallel()
	d := pgtest.NewEmpty(t)
	// Somebody holds the table of versions until all of them have come.
	if _, err := postgres.MigrationStatuses(t.Context(), d.URL(pgtest.Migrator)); err != nil {
		t.Fatal(err)
	}
	tx, err := d.Super(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE vault.schema_version"); err != nil {
		t.Fatal(err)
	}
	const runners = 5
	var group sync.WaitGroup
	for range runners {
		group.Go(func() {
			if err := postgres.Migrate(t.Context(), d.URL(pgtest.Migrator)); err != nil {
				t.Error(err)
			}
		})
	}
	const come = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = $1"
	const held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
	for pgtest.Query[int](t, d, come, pgtest.Migrator)[0] < runners || pgtest.Query[int](t, d, held)[0] == 0 {
		if t.Context().Err() != nil {
			t.Fatal(t.Context().Err())
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	if versions := applied(t, d); !slices.Equal(versions, upTo(latest(t))) {
		t.Errorf("applied: %v", versions)
	}
}

func TestMigrationStatuses_TellWhatIsApplied(t *testing.T) {
	t.Parallel()
	d := pgtest.NewEmpty(t)
	statuses := func() []postgres.MigrationStatus {
		t.Helper()
		all, err := postgres.MigrationStatuses(t.Context(), d.URL(pgtest.Migrator))
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != int(latest(t)) {
			t.Errorf("%d migrations are known", len(all))
		}
		for i, s := range all {
			if s.Version != int64(i+1) || !strings.HasPrefix(s.File, fmt.Sprintf("%05d_", i+1)) || s.Applied == s.AppliedAt.IsZero() {
				t.Errorf("status %+v", s)
			}
		}
		return all
	}
	for _, s := range statuses() {
		if s.Applied {
			t.Errorf("of an empty database: %+v", s)
		}
	}
	if err := postgres.Migrate(t.Context(), d.URL(pgtest.Migrator)); err != nil {
		t.Fatal(err)
	}
	for _, s := range statuses() {
		if !s.Applied {
			t.Errorf("of a migrated database: %+v", s)
		}
	}
	d.Exec(t, "DELETE FROM vault.schema_version WHERE version_id = $1", latest(t))
	for _, s := range statuses() {
		if s.Applied != (s.Version < latest(t)) {
			t.Errorf("of an older database: %+v", s)
		}
	}
}

func TestCheckSchema_SaysWhatToDo(t *testing.T) {
	t.Parallel()
	newest := latest(t)
	for name, test := range map[string]struct {
		change string
		want   string
	}{
		"a schema of this release": {"", ""},
		"an older schema": {
			fmt.Sprintf("DELETE FROM vault.schema_version WHERE version_id = %d", newest),
			fmt.Sprintf("the database's schema is at version %d and this binary needs %d: run `sealkeep migrate up`", newest-1, newest),
		},
		"a newer schema": {
			fmt.Sprintf("INSERT INTO vault.schema_version (version_id, is_applied) VALUES (%d, true)", newest+1),
			fmt.Sprintf("the database's schema is at version %d, newer than the %d this binary knows: run the newer release", newest+1, newest),
		},
		"a migration that never finished": {
			"DELETE FROM vault.schema_version WHERE version_id > 0",
			"the database has no vault schema: run `sealkeep migrate up`",
		},
		"no schema": {
			"DROP SCHEMA vault CASCADE", "the database has no vault schema: run `sealkeep migrate up`",
		},
		"no schema but its name": {
			"DROP SCHEMA vault CASCADE; CREATE SCHEMA vault; GRANT USAGE ON SCHEMA vault TO PUBLIC",
			"the database has no vault schema: run `sealkeep migrate up`",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := pgtest.New(t)
			if test.change != "" {
				d.Exec(t, test.change)
			}
			err := open(t, d.URL("sealkeep_api")).CheckSchema(t.Context())
			if (test.want == "") != (err == nil) || err != nil && err.Error() != test.want {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("every group role may look", func(t *testing.T) {
		t.Parallel()
		d := pgtest.New(t)
		for _, login := range []string{"sealkeep_api", "sealkeep_rotator", "sealkeep_auditship", "sealkeep_operator"} {
			if err := open(t, d.URL(login)).CheckSchema(t.Context()); err != nil {
				t.Errorf("%s: %v", login, err)
			}
		}
	})
}

// However far somebody got without a group role, the sentence is the same.
func TestCheckSchema_TellsALoginThatItHasNoGroupRole(t *testing.T) {
	t.Parallel()
	d := pgtest.NewServer(t, nil).Database // a role belongs to a whole server
	d.Exec(t, "CREATE ROLE stranger LOGIN")
	for _, granted := range []string{
		"SELECT", // nothing: it can't even connect
		"GRANT CONNECT ON DATABASE " + d.Name() + " TO stranger",
		"GRANT USAGE ON SCHEMA vault TO stranger",
		"GRANT SELECT ON ALL TABLES IN SCHEMA vault TO stranger", // of which it sees no row
	} {
		d.Exec(t, granted)
		err := open(t, d.URL("stranger")).CheckSchema(t.Context())
		want := "this login may not use schema vault: grant it its group role (see `sealkeep migrate roles --print`)"
		if err == nil || err.Error() != want {
			t.Errorf("after %s: %v", granted, err)
		}
	}
	d.Exec(t, "GRANT vault_api TO stranger")
	if err := open(t, d.URL("stranger")).CheckSchema(t.Context()); err != nil {
		t.Errorf("with its group role: %v", err)
	}
}

func TestMigrate_RefusesAGroupRoleThatIsMore(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t, nil) // roles are the whole server's
	server.Exec(t, "CREATE DATABASE another OWNER migrator")
	server.Exec(t, "ALTER ROLE vault_api BYPASSRLS")
	address := strings.Replace(server.URL("migrator"), "/"+server.Name(), "/another", 1)
	if err := postgres.Migrate(t.Context(), address); err == nil || !strings.Contains(err.Error(), "more than a group") {
		t.Errorf("migrating beside a group role with BYPASSRLS: %v", err)
	}
	server.Exec(t, "ALTER ROLE vault_api NOBYPASSRLS")
	if err := postgres.Migrate(t.Context(), address); err != nil {
		t.Error(err)
	}
}
