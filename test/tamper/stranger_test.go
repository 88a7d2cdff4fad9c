package tamper

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// TestI6_ALoginOutsideTheGroupsSeesNoRowOfARunningVault gives a login every table that a vault has filled by working, and
// nothing else.
func TestI6_ALoginOutsideTheGroupsSeesNoRowOfARunningVault(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t, nil) // a role belongs to a whole server
	v := vaulttest.New(t, vaulttest.Config{Database: server.Database})
	b := &bench{Vault: v, headers: map[int]string{}}
	b.create(t, "app/key", object{"value": "a value", "grace_period_secs": 3600})
	b.answers(t, update("app/key", object{"value": "another value"}))
	b.answers(t, read("app/key"))
	b.Do(t, http.MethodGet, path("app/missing"), nil).Want(t, http.StatusNotFound)
	b.Do(t, http.MethodPost, "/v1/roles", object{"name": "reader", "permissions": []object{{"action": "read", "path": "app/*"}}}).Want(t, http.StatusCreated)
	b.Do(t, http.MethodPost, "/v1/tokens", object{"name": "reader", "role": "reader"}).Want(t, http.StatusCreated)
	b.Do(t, http.MethodGet, "/v1/status", nil, sealkeeptest.WithToken("")).Want(t, http.StatusUnauthorized)
	v.Restart(t) // which writes down when tokens were used

	d := server.Database
	d.Exec(t, fmt.Sprintf(`
		CREATE ROLE stranger LOGIN;
		GRANT CONNECT ON DATABASE %s TO stranger;
		GRANT USAGE ON SCHEMA vault TO stranger;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA vault TO stranger`, d.Name()))
	stranger := connect(t, d, "stranger")

	populated := map[string]int{}
	tables := pgtest.Query[string](t, d, `
		SELECT format('vault.%I', relname) FROM pg_class
		WHERE relnamespace = 'vault'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1`)
	for _, table := range tables {
		rows := pgtest.Query[int](t, d, "SELECT count(*) FROM "+table)[0]
		if rows == 0 {
			continue
		}
		populated[table] = rows
		if seen := count(t, stranger, table); seen != 0 {
			t.Errorf("I6: %d rows of %s are seen", seen, table)
		}
		column := pgtest.Query[string](t, d, "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = $1::regclass AND attnum = 1", table)[0]
		for _, sql := range []string{fmt.Sprintf("UPDATE %s SET %s = DEFAULT", table, column), "DELETE FROM " + table} {
			if done, err := stranger.Exec(t.Context(), sql); done.RowsAffected() != 0 {
				t.Errorf("I6: %s: %d rows, %v", sql, done.RowsAffected(), err)
			}
		}
	}
	leaf := pgtest.Query[string](t, d, "SELECT DISTINCT tableoid::regclass::text FROM vault.audit_log")[0]
	for _, table := range []string{
		"vault.authz_state", "vault.keyring", "vault.roles", "vault.role_permissions", "vault.admin_tokens", "vault.token_uses",
		"vault.secrets", "vault.secret_versions", "vault.audit_streams", "vault.audit_log", leaf,
	} {
		if populated[table] == 0 {
			t.Errorf("the running vault left %s empty, so this proves nothing of it", table)
		}
	}
	t.Logf("no row is seen of %v", populated)

	// The service's own group is what makes the difference.
	d.Exec(t, "GRANT vault_api TO stranger")
	member := connect(t, d, "stranger") // the other session planned its queries for whom it was
	for _, table := range []string{"vault.secrets", "vault.secret_versions", "vault.admin_tokens", "vault.keyring"} {
		if seen := count(t, member, table); seen != populated[table] {
			t.Errorf("a member of the group sees %d rows of %s, not %d: the test shows nothing", seen, table, populated[table])
		}
	}
	if read := b.answers(t, read("app/key")); read.Text("value") != "another value" {
		t.Errorf("afterwards: %s", read.Body)
	}
}

func connect(t *testing.T, d *pgtest.Database, user string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.URL(user))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func count(t *testing.T, conn *pgx.Conn, table string) int {
	t.Helper()
	var n int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		t.Errorf("%s: %v", table, err)
	}
	return n
}
