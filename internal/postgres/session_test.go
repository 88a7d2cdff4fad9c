package postgres_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// safe is what every session must have. synchronous_commit makes a commit wait for the standby, and client_min_messages lets
// it be noticed when that wait is cut short.
var safe = map[string]string{
	"synchronous_commit":                  "on",
	"statement_timeout":                   "0",
	"idle_in_transaction_session_timeout": "15s",
	"client_min_messages":                 "notice",
	"lock_timeout":                        "2s",
	"jit":                                 "off",
	"search_path":                         "pg_catalog",
	"TimeZone":                            "GMT",
	"client_encoding":                     "UTF8",
	"default_transaction_isolation":       "read committed",
	"application_name":                    "tested",
}

// weak is what others may wish for.
var weak = map[string]string{
	"synchronous_commit":                  "off",
	"statement_timeout":                   "1h",
	"idle_in_transaction_session_timeout": "1h",
	"client_min_messages":                 "error",
	"lock_timeout":                        "1h",
	"jit":                                 "on",
	"search_path":                         "public",
	"TimeZone":                            "<+14>-14",
	"client_encoding":                     "LATIN1",
	"default_transaction_isolation":       "serializable",
	"application_name":                    "other",
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func settings(t *testing.T, session querier) map[string]string {
	t.Helper()
	got := map[string]string{}
	for name := range safe {
		var value string
		if err := session.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&value); err != nil {
			t.Fatal(err)
		}
		got[name] = value
	}
	return got
}

// forced checks all kinds of sessions that a database has.
func forced(t *testing.T, database *postgres.DB) {
	t.Helper()
	tx := begin(t, database)
	defer tx.Rollback(t.Context())
	for kind, session := range map[string]querier{
		"the pool": database.Pool(), "a transaction": tx.Raw(), "the audit": auditConn(t, database).Raw(),
	} {
		for name, value := range settings(t, session) {
			if value != safe[name] {
				t.Errorf("a session of %s has %s = %s", kind, name, value)
			}
		}
	}
}

func TestI13_SessionsForceTheirSettings(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	plain := d.URL("sealkeep_api")
	t.Run("against the defaults of the role and the database", func(t *testing.T) {
		d := pgtest.New(t)
		for name, value := range weak {
			d.Exec(t, fmt.Sprintf("ALTER ROLE sealkeep_api IN DATABASE %s SET %s = '%s'", d.Name(), name, value))
			d.Exec(t, fmt.Sprintf("ALTER DATABASE %s SET %s = '%s'", d.Name(), name, value))
		}
		conn, err := pgx.Connect(t.Context(), d.URL("sealkeep_api"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		for name, value := range settings(t, conn) {
			// The driver's own encoding is UTF-8 if nobody asks for another.
			if value == safe[name] && name != "application_name" {
				t.Errorf("an ordinary session has %s = %s: the test shows nothing", name, value)
			}
		}
		forced(t, open(t, d.URL("sealkeep_api")))
	})
	t.Run("against the connection string", func(t *testing.T) {
		var parameters []string
		for name, value := range weak {
			parameters = append(parameters, name, value)
		}
		forced(t, open(t, plain, parameters...))
	})
	t.Run("against another spelling of their names", func(t *testing.T) {
		// PostgreSQL takes names in any case; the order in which a map gives two spellings is random.
		var parameters []string
		for name, value := range weak {
			parameters = append(parameters, strings.ToUpper(name), value, strings.ToUpper(name[:1])+name[1:], value)
		}
		for range 4 {
			forced(t, open(t, plain, parameters...))
		}
	})
	t.Run("against options", func(t *testing.T) {
		var options strings.Builder
		for name, value := range weak {
			fmt.Fprintf(&options, " -c %s=%s", name, value)
		}
		forced(t, open(t, plain, "options", options.String()))
	})
	t.Run("and nothing else comes in with the connection string", func(t *testing.T) {
		database := open(t, plain, "options", "-c role=vault_api -c work_mem=7MB", "row_security", "off", "transform_null_equals", "on")
		var got string
		const sql = `SELECT concat_ws(' ', current_user, current_setting('work_mem') <> '7MB', current_setting('row_security'),
			current_setting('transform_null_equals'))`
		if err := database.Pool().QueryRow(t.Context(), sql).Scan(&got); err != nil || got != "sealkeep_api t on off" {
			t.Errorf("%s, %v", got, err)
		}
	})
}

// Not parallel: the environment is the whole process's.
func TestI13_SessionsForceTheirSettingsAgainstTheEnvironment(t *testing.T) {
	d := pgtest.New(t)
	t.Setenv("PGOPTIONS", "-c synchronous_commit=off -c client_min_messages=error -c row_security=off")
	t.Setenv("PGTZ", "Asia/Tokyo")
	t.Setenv("PGTARGETSESSIONATTRS", "any")
	d.Exec(t, "ALTER ROLE sealkeep_operator IN DATABASE "+d.Name()+" SET default_transaction_read_only = on")
	forced(t, open(t, d.URL("sealkeep_api")))
	if err := open(t, d.URL("sealkeep_operator")).Ping(t.Context()); err == nil {
		t.Error("a session that can't write is taken")
	}
}

func TestI8_SessionThatCannotWriteIsRefused(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	for _, attributes := range []string{"read-write", "any", "read-only", "standby", "prefer-standby"} {
		t.Run("whatever target_session_attrs says: "+attributes, func(t *testing.T) {
			d := pgtest.New(t)
			d.Exec(t, "ALTER DATABASE "+d.Name()+" SET default_transaction_read_only = on")
			refusesToWork(t, d.URL("sealkeep_api"), "target_session_attrs", attributes)
		})
		t.Run("and one that can is taken: "+attributes, func(t *testing.T) {
			if err := open(t, d.URL("sealkeep_api"), "target_session_attrs", attributes).Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("as the migrator too", func(t *testing.T) {
		d := pgtest.NewEmpty(t)
		d.Exec(t, "ALTER DATABASE "+d.Name()+" SET default_transaction_read_only = on")
		if err := postgres.Migrate(t.Context(), d.URL(pgtest.Migrator)); err == nil || !strings.Contains(err.Error(), "read only") {
			t.Errorf("error %v", err)
		}
	})
}

func refusesToWork(t *testing.T, address string, parameters ...string) {
	t.Helper()
	database := open(t, address, parameters...)
	conn, errAudit := database.AuditConn(t.Context())
	if errAudit == nil {
		conn.Close(t.Context())
	}
	tx, errBegin := database.Begin(t.Context())
	if errBegin == nil {
		tx.Rollback(t.Context())
	}
	for doing, err := range map[string]error{"ping": database.Ping(t.Context()), "audit": errAudit, "begin": errBegin} {
		if err == nil || fault.KindOf(postgres.Fault(err)) != fault.Unavailable {
			t.Errorf("%s: error %v", doing, err)
		}
	}
}

func TestI8_StandbyIsRefusedAndThePrimaryFound(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t, nil)
	primary := pgtest.New(t)
	if err := s.Postgres.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Postgres.DataDir(), "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Postgres.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !pgtest.Query[bool](t, s.Database, "SELECT pg_is_in_recovery()")[0] {
		t.Fatal("the server is no standby")
	}
	refusesToWork(t, s.URL("sealkeep_api"))

	// Both servers, the standby first; the database postgres is in each of them.
	both := hosts(t, s.TCPURL("sealkeep_api"), primary.TCPURL("sealkeep_api"))
	database := open(t, both)
	var standby bool
	if err := database.Pool().QueryRow(t.Context(), "SELECT pg_is_in_recovery()").Scan(&standby); err != nil || standby {
		t.Errorf("of both hosts the session is on the standby: %v, error %v", standby, err)
	}
	if err := auditConn(t, database).Raw().QueryRow(t.Context(), "SELECT pg_is_in_recovery()").Scan(&standby); err != nil || standby {
		t.Errorf("of both hosts the audit's session is on the standby: %v, error %v", standby, err)
	}
}

// hosts makes one URL for the database postgres of the servers of several.
func hosts(t *testing.T, addresses ...string) string {
	t.Helper()
	var all []string
	var last *url.URL
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		all, last = append(all, u.Host), u
	}
	last.Host, last.Path = strings.Join(all, ","), "/postgres"
	return last.String()
}

func TestOpen_SaysNothingOfAConnectionStringItCannotParse(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"postgres://user:hunter2@[::1/db", "host=a port=hunter2", "postgres://u:hunter2@h/db?sslmode=hunter2", "hunter2",
	} {
		_, err := postgres.Open(t.Context(), postgres.Config{ConnString: address})
		migrateErr := postgres.Migrate(t.Context(), address)
		for _, err := range []error{err, migrateErr} {
			if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "VAULT_DATABASE_URL") {
				t.Errorf("%s: %v", address, err)
			}
		}
	}
}
