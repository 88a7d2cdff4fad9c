package migrations_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// hiddenRow is what row security says of a row that may not be written.
const hiddenRow = "new row violates row-level security policy"

// A login that somebody granted every table, but that is in no group role, sees no row and writes none.
func TestI6_LoginWithTableGrantsAloneSeesNoRow(t *testing.T) {
	t.Parallel()
	d := pgtest.NewServer(t, nil).Database // a role belongs to a whole server
	populate(t, d)
	d.Exec(t, fmt.Sprintf(`
		CREATE ROLE stranger LOGIN;
		GRANT CONNECT ON DATABASE %s TO stranger;
		GRANT USAGE ON SCHEMA vault TO stranger;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA vault TO stranger`, d.Name()))
	stranger := connect(t, d, "stranger")
	for _, table := range relations(t, d) {
		sees(t, stranger, table, false)
		row := pgtest.Query[string](t, d, fmt.Sprintf("SELECT to_json(r)::text FROM %s r LIMIT 1", table))[0]
		insert := fmt.Sprintf("INSERT INTO %s SELECT * FROM json_populate_record(NULL::%s, '%s')",
			table, table, strings.ReplaceAll(row, "'", "''"))
		if refused := try(t, stranger, insert); state(refused) != denied || !strings.Contains(refused.Message, hiddenRow) {
			t.Errorf("inserting into %s: %v", table, refused)
		}
		if refused := try(t, stranger, "SET LOCAL row_security = off", "SELECT count(*) FROM "+table); state(refused) != denied {
			t.Errorf("switching row security off for %s: %v", table, refused)
		}
	}

	t.Run("calls no function and makes nothing", func(t *testing.T) {
		functions := pgtest.Query[string](t, d, `
			SELECT format('vault.%I(%s)', proname, array_to_string(ARRAY(SELECT 'NULL::' || format_type(a, NULL)
			                                                            FROM unnest(proargtypes) AS a), ', '))
			FROM pg_proc WHERE pronamespace = 'vault'::regnamespace`)
		if len(functions) < 4 {
			t.Errorf("the catalogue lists only the functions %q", functions)
		}
		for _, function := range functions {
			if refused := try(t, stranger, "SELECT "+function); state(refused) != denied {
				t.Errorf("%s: %v", function, refused)
			}
		}
		for _, sql := range []string{
			"CREATE TABLE vault.mine ()", "CREATE SCHEMA mine", "CREATE TEMPORARY TABLE mine ()", "SET ROLE vault_api",
			"ALTER TABLE vault.secrets DISABLE ROW LEVEL SECURITY", "CREATE POLICY mine ON vault.secrets USING (true)",
		} {
			if refused := try(t, stranger, sql); state(refused) != denied {
				t.Errorf("%s: %v", sql, refused)
			}
		}
	})
	t.Run("which the group's policies alone decide", func(t *testing.T) {
		d.Exec(t, "GRANT vault_api TO stranger")
		if n := value[int](t, stranger, "SELECT count(*) FROM vault.secrets"); n == 0 {
			t.Error("a member of the group sees no row either: the test shows nothing")
		}
	})
}

// FORCE binds the owner: it sees rows only where a policy names it.
func TestI6_OwnerSeesOnlyWhatItsOwnPoliciesName(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	populate(t, d)
	named := pgtest.Query[string](t, d, `
		SELECT format('vault.%I', tablename) FROM pg_policies WHERE schemaname = 'vault' AND 'vault_owner' = ANY (roles)`)
	// Versions it may read, for vault.ciphertext_sha256 alone (docs/decisions/0018-tables-against-the-trail.md).
	for _, secret := range []string{"vault.secrets", "vault.admin_tokens", "vault.keyring", "vault.deleted_secrets"} {
		if slices.Contains(named, secret) {
			t.Errorf("a policy shows %s to the owner", secret)
		}
	}
	owner := connect(t, d, pgtest.Migrator)
	if _, err := owner.Exec(t.Context(), "SET ROLE vault_owner"); err != nil {
		t.Fatal(err)
	}
	for _, table := range relations(t, d) {
		sees(t, owner, table, slices.Contains(named, table))
	}
}

// sees checks whether a session sees and reaches rows of a table that holds some.
func sees(t *testing.T, conn *pgx.Conn, table string, expected bool) {
	t.Helper()
	if n := value[int](t, conn, "SELECT count(*) FROM "+table); (n > 0) != expected {
		t.Errorf("%s: %d rows are seen", table, n)
	}
	if expected {
		return
	}
	column := value[string](t, conn, `
		SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped
		ORDER BY attnum LIMIT 1`, table)
	for _, sql := range []string{
		fmt.Sprintf("UPDATE %s SET %s = %s", table, column, column),
		"DELETE FROM " + table,
	} {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tag, err := tx.Exec(t.Context(), sql)
		// On the audit's tables the statement itself is refused.
		if refused := refusal(t, err); tag.RowsAffected() != 0 || refused != nil && refused.Code != denied {
			t.Errorf("%s: %d rows, error %v", sql, tag.RowsAffected(), err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
