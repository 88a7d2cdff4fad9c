package pgtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/postgres"
)

// prepareLimit bounds the start of a server and its first migration.
const prepareLimit = 3 * time.Minute

// cluster is a PostgreSQL server with a migrated template database.
type cluster struct {
	url    func(user, database string) string
	tcpURL func(user, database string) string // "" without TCP
	admin  string                             // the database for statements about databases
	prefix string                             // of the names of its databases
	grants []string                           // that give a clone the template's access rights; %s is its name
	stop   func() error

	clones atomic.Int64
}

func (c *cluster) template() string { return c.prefix + "template" }

// prepare makes the roles and the template.
func (c *cluster) prepare(ctx context.Context, password string) error {
	conn, err := connect(ctx, c.url(Superuser, c.admin))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// Processes that share a server make the same roles.
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", prepareLock); err != nil {
		return err
	}
	if err := makeLogin(ctx, conn, Migrator, "CREATEROLE", password); err != nil {
		return err
	}
	if err := run(ctx, conn, fmt.Sprintf("CREATE DATABASE %s OWNER %s", c.template(), Migrator)); err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, c.url(Migrator, c.template())); err != nil {
		return err
	}
	for login, group := range logins {
		if err := makeLogin(ctx, conn, login, "", password); err != nil {
			return err
		}
		if err := run(ctx, conn, fmt.Sprintf("GRANT %s TO %s", group, login)); err != nil {
			return err
		}
	}
	if c.grants, err = templateGrants(ctx, conn, c.template()); err != nil {
		return err
	}
	// Cloning needs a template that nobody is connected to.
	return run(ctx, conn, fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS false", c.template()))
}

// prepareLock is the key of the advisory lock under which roles are made.
const prepareLock int64 = 0x7365616c6b656570

func makeLogin(ctx context.Context, conn *pgx.Conn, name, attributes, password string) error {
	rows, err := conn.Query(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name)
	if err != nil {
		return err
	}
	exists, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
	if err != nil {
		return err
	}
	verb := "CREATE"
	if exists {
		verb = "ALTER"
	}
	if password != "" {
		attributes += " PASSWORD '" + strings.ReplaceAll(password, "'", "''") + "'"
	}
	if err := run(ctx, conn, fmt.Sprintf("%s ROLE %s LOGIN %s", verb, name, attributes)); err != nil {
		return fmt.Errorf("making login %s: %w", name, errors.Unwrap(err))
	}
	return nil
}

// templateGrants reads the rights on the template itself, which CREATE DATABASE does not copy.
func templateGrants(ctx context.Context, conn *pgx.Conn, template string) ([]string, error) {
	rows, err := conn.Query(ctx, `
		SELECT format('GRANT %s ON DATABASE %%s TO %s%s', privilege_type,
		              CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
		              CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
		FROM pg_database, aclexplode(datacl)
		WHERE datname = $1 AND grantee <> datdba
		ORDER BY 1`, template)
	if err != nil {
		return nil, err
	}
	grants, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return append([]string{"REVOKE ALL ON DATABASE %s FROM PUBLIC"}, grants...), err
}

// database makes a database for a test.
func (c *cluster) database(t testing.TB, migrated bool) *Database {
	t.Helper()
	d := &Database{t: t, cluster: c, name: fmt.Sprintf("%s%d", c.prefix, c.clones.Add(1))}
	statements := []string{fmt.Sprintf("CREATE DATABASE %s OWNER %s", d.name, Migrator)}
	if migrated {
		statements[0] += " TEMPLATE " + c.template()
		var grants strings.Builder
		for _, grant := range c.grants {
			fmt.Fprintf(&grants, grant+";", d.name)
		}
		statements = append(statements, grants.String())
	}
	if err := c.administer(statements...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.close()
		if c.stop == nil {
			return
		}
		if err := c.administer(fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", d.name)); err != nil {
			t.Error(err)
		}
	})
	return d
}

// administer runs statements on a connection of its own: one that stayed open would be a session that tests see.
func (c *cluster) administer(statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), statementLimit)
	defer cancel()
	conn, err := connect(ctx, c.url(Superuser, c.admin))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return run(ctx, conn, statements...)
}

func run(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}
