package migrations_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// grant is one right of one role, as the catalogue has it, owners' own apart.
type grant struct {
	Kind      string // table, sequence, column, function, schema, database
	Object    string // without the schema; of a column, the table
	Column    string
	Partition bool
	Grantee   string
	Privilege string
}

func (g grant) String() string {
	privilege := g.Privilege
	if g.Column != "" {
		privilege += " (" + g.Column + ")"
	}
	return g.Grantee + " has " + privilege + " on " + g.Kind + " " + g.Object
}

// grants lists every right on anything of the schema and on the database. An ACL that was never written stands for its
// kind's default, which acldefault gives.
func grants(t *testing.T, d *pgtest.Database) []grant {
	t.Helper()
	return pgtest.Query[grant](t, d, `
		WITH acl (kind, object, col, partition, owner, items) AS (
			SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, relname::text, '', relispartition, relowner,
			       coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
			FROM pg_class WHERE relnamespace = 'vault'::regnamespace AND relkind NOT IN ('i', 'I')
			UNION ALL
			SELECT 'column', relname, attname, relispartition, relowner, attacl
			FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
			WHERE relnamespace = 'vault'::regnamespace AND attacl IS NOT NULL
			UNION ALL
			SELECT 'function', proname, '', false, proowner, coalesce(proacl, acldefault('f', proowner))
			FROM pg_proc WHERE pronamespace = 'vault'::regnamespace
			UNION ALL
			SELECT 'schema', nspname, '', false, nspowner, coalesce(nspacl, acldefault('n', nspowner))
			FROM pg_namespace WHERE nspname = 'vault'
			UNION ALL
			SELECT 'database', 'database', '', false, datdba, coalesce(datacl, acldefault('d', datdba))
			FROM pg_database WHERE datname = current_database()
		)
		SELECT kind, object, col, partition,
		       CASE item.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(item.grantee)::text END, item.privilege_type
		FROM acl, aclexplode(items) AS item
		WHERE item.grantee <> acl.owner
		ORDER BY 5, 1, 2, 6, 3`)
}

func TestI6_EveryTableHasForcedRowSecurity(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	type table struct {
		Name            string
		Kind            string
		Enabled, Forced bool
	}
	tables := pgtest.Query[table](t, d, `
		SELECT relname::text, relkind::text, relrowsecurity, relforcerowsecurity FROM pg_class
		WHERE relnamespace = 'vault'::regnamespace AND relkind NOT IN ('i', 'I', 'S', 't', 'c') ORDER BY 1`)
	if len(tables) != len(relations(t, d)) {
		t.Errorf("%d relations, of which %d hold rows", len(tables), len(relations(t, d)))
	}
	for _, table := range tables {
		if table.Kind != "r" && table.Kind != "p" {
			t.Errorf("%s is a relation of kind %q, which knows no row security", table.Name, table.Kind)
		}
		if !table.Enabled || !table.Forced {
			t.Errorf("row security of %s: enabled %v, forced %v", table.Name, table.Enabled, table.Forced)
		}
	}
}

func TestI6_PublicHasNothing(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	all := grants(t, d)
	for _, kind := range []string{"table", "column", "function", "schema", "database"} {
		if !slices.ContainsFunc(all, func(g grant) bool { return g.Kind == kind }) {
			t.Errorf("nobody has any right on a %s: the list is wrong", kind)
		}
	}
	for _, g := range all {
		if g.Grantee == "PUBLIC" {
			t.Error(g)
		}
	}
	t.Run("nor will it have on a function that is made later", func(t *testing.T) {
		d.Exec(t, "SET ROLE vault_owner; CREATE FUNCTION vault.later() RETURNS int LANGUAGE sql RETURN 1; RESET ROLE")
		if pgtest.Query[bool](t, d, "SELECT has_function_privilege('sealkeep_api', 'vault.later()', 'EXECUTE')")[0] {
			t.Error("a new function is everybody's to call")
		}
	})
}

func TestI6_GroupRolesHaveTheLeastThatWorks(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	all := grants(t, d)
	t.Log("rights by role:" + matrix(all))

	if tables := tableNames(t, d); !slices.Equal(tables, ruled) {
		t.Errorf("the tables are %q, and rules of rights were thought of for %q: think of the others, too", tables, ruled)
	}
	all = slices.DeleteFunc(all, func(g grant) bool { return g.Kind == "database" && g.Grantee == "vault_owner" })
	for _, g := range all {
		reading := g.Privilege == "SELECT"
		switch g.Kind {
		case "database":
			allow(t, g, g.Privilege == "CONNECT")
			continue
		case "schema":
			allow(t, g, g.Privilege == "USAGE")
			continue
		case "function":
			allow(t, g, g.Object == "ensure_audit_partitions" && g.Grantee != "vault_auditship" ||
				g.Object == "drop_audit_partition" && g.Grantee == "vault_auditship" ||
				g.Object == "ciphertext_sha256" && g.Grantee == "vault_operator")
			continue
		case "sequence":
			t.Error(g)
			continue
		}
		allow(t, g, !g.Partition)
		allow(t, g, slices.Contains([]string{"SELECT", "INSERT", "UPDATE", "DELETE"}, g.Privilege))
		// What says where a row belongs, what it is and what it seals is written once.
		if g.Privilege == "UPDATE" && !slices.Contains([]string{"rotation_jobs", "rotation_probes", "auth_lockouts", "ship_cursors"}, g.Object) {
			allow(t, g, g.Column != "" && !slices.Contains(writtenOnce, g.Column))
		}
		switch g.Object {
		case "audit_log":
			allow(t, g, reading || g.Privilege == "INSERT")
		case "audit_streams":
			moves := g.Privilege == "UPDATE" && slices.Contains([]string{"state", "head_seq", "head_mac", "head_at", "closed_at"}, g.Column)
			allow(t, g, reading || g.Privilege == "INSERT" || moves)
		case "ship_cursors":
			allow(t, g, g.Grantee == "vault_auditship")
		case "keyring": // serving processes never make keys, nor retire them
			changes := g.Privilege == "INSERT" ||
				g.Privilege == "UPDATE" && slices.Contains([]string{"wrapped_key", "kms_key_id", "retired_at", "mac", "mac_key_id"}, g.Column)
			allow(t, g, reading || changes && g.Grantee == "vault_operator")
		case "authz_state":
			bumps := g.Privilege == "UPDATE" && slices.Contains([]string{"epoch", "mac", "key_id"}, g.Column)
			inits := g.Privilege == "INSERT" && g.Grantee == "vault_operator"
			allow(t, g, reading || inits || bumps && g.Grantee != "vault_rotator")
		case "schema_version":
			allow(t, g, reading)
		case "deleted_secrets": // what remains is written once, and MACed anew
			macs := g.Privilege == "UPDATE" && slices.Contains([]string{"mac", "key_id"}, g.Column)
			allow(t, g, reading || g.Privilege == "INSERT" && g.Grantee == "vault_api" || macs && g.Grantee == "vault_operator")
		case "rotation_control": // who asks for a pause is authorised by the API
			changes := g.Privilege == "INSERT" || g.Privilege == "UPDATE"
			macs := g.Privilege == "UPDATE" && slices.Contains([]string{"mac", "key_id"}, g.Column)
			allow(t, g, reading || changes && g.Grantee == "vault_api" || macs && g.Grantee == "vault_operator")
		case "rotation_fetches": // a rotator lets somebody fetch, and the others take that away
			allow(t, g, reading || g.Privilege == "DELETE" || g.Privilege == "INSERT" && g.Grantee == "vault_rotator")
		case "rewrap_state": // an operator asks, a rotator tells, and neither speaks for the other
			asks := g.Privilege == "UPDATE" && slices.Contains([]string{"requested_at", "again_before"}, g.Column)
			tells := g.Privilege == "UPDATE" && slices.Contains([]string{"state", "worker", "started_at", "finished_at", "found", "done", "failed", "error", "note"}, g.Column)
			allow(t, g, reading || asks && g.Grantee == "vault_operator" || tells && g.Grantee == "vault_rotator")
		case "secrets", "secret_versions": // no offline command makes or removes one
			allow(t, g, g.Privilege != "INSERT" && g.Privilege != "DELETE" || g.Grantee != "vault_operator")
		case "roles", "role_permissions", "admin_tokens", "token_uses", "auth_lockouts", "idempotency_keys", "rotation_jobs", "rotation_probes":
			// what each role may do to them follows below
		default:
			t.Errorf("%s: there is no rule for this table", g)
		}
		switch g.Grantee {
		case "vault_auditship": // sees no secret, no version, no token
			allow(t, g, reading || g.Object == "ship_cursors")
			allow(t, g, slices.Contains([]string{"audit_log", "audit_streams", "authz_state", "keyring", "schema_version", "ship_cursors"}, g.Object))
		case "vault_rotator": // sees no token, nor what one may do
			allow(t, g, !slices.Contains([]string{"admin_tokens", "token_uses", "roles", "role_permissions", "auth_lockouts"}, g.Object))
			// Who can't set a target, a schedule or a password policy can't be made to rotate anything otherwise than it was told.
			advances := slices.Contains([]string{"current_version", "next_rotation_at", "updated_at", "revision", "versions_digest", "mac", "key_id"}, g.Column)
			allow(t, g, g.Object != "secrets" || reading || g.Privilege == "UPDATE" && advances)
		case "vault_api": // never wraps a data key again, nor under another key
			allow(t, g, g.Object != "secret_versions" || !slices.Contains([]string{"kms_key_id", "wrapped_dek", "wrapped_at"}, g.Column))
		case "vault_operator": // sees all that a MAC covers but the ciphertext itself, and writes MACs
			macs := g.Privilege == "UPDATE" && slices.Contains([]string{"mac", "key_id"}, g.Column)
			counts := g.Privilege == "UPDATE" && slices.Contains([]string{"revision", "versions_digest"}, g.Column)
			allow(t, g, g.Object != "secrets" || reading || macs || counts)
			allow(t, g, g.Object != "secret_versions" || reading && g.Column != "" && g.Column != "ciphertext" || macs)
			allow(t, g, g.Object != "deleted_secrets" || reading || macs)
			allow(t, g, g.Object != "rotation_jobs" && g.Object != "idempotency_keys")
		default:
			t.Errorf("%s, and isn't one of the group roles", g)
		}
	}
	if owners := pgtest.Query[string](t, d, `
		SELECT DISTINCT pg_get_userbyid(owner) FROM (
			SELECT relowner FROM pg_class WHERE relnamespace = 'vault'::regnamespace
			UNION ALL SELECT proowner FROM pg_proc WHERE pronamespace = 'vault'::regnamespace
			UNION ALL SELECT nspowner FROM pg_namespace WHERE nspname = 'vault') AS objects (owner)`); !slices.Equal(owners, []string{"vault_owner"}) {
		t.Errorf("the schema and what is in it belong to %q", owners)
	}
}

// ruled are the tables that the rules of rights below know, partitions apart, by name.
var ruled = []string{
	"admin_tokens", "audit_log", "audit_streams", "auth_lockouts", "authz_state", "deleted_secrets", "idempotency_keys", "keyring",
	"rewrap_state", "role_permissions", "roles", "rotation_control", "rotation_fetches", "rotation_jobs", "rotation_probes", "schema_version", "secret_versions", "secrets", "ship_cursors", "token_uses",
}

func tableNames(t *testing.T, d *pgtest.Database) []string {
	t.Helper()
	return pgtest.Query[string](t, d, `SELECT relname::text FROM pg_class WHERE relnamespace = 'vault'::regnamespace
		AND relkind NOT IN ('i', 'I', 'S', 't', 'c') AND NOT relispartition ORDER BY relname COLLATE "C"`)
}

var writtenOnce = []string{
	"id", "name", "role_id", "token_id", "secret_id", "stream_id", "vault_id", "version", "version_uid", "nonce", "ciphertext",
	"token_sha256", "kind", "format", "is_admin", "initialised", "action", "path", "created_at", "opened_at", "process",
}

func allow(t *testing.T, g grant, allowed bool) {
	t.Helper()
	if !allowed {
		t.Errorf("%s", g)
	}
}

// matrix prints grants by role and object.
func matrix(all []grant) string {
	var out strings.Builder
	var line string
	for _, g := range all {
		key := fmt.Sprintf("\n  %-16s %-9s %-24s", g.Grantee, strings.Replace(g.Kind, "column", "table", 1), g.Object)
		if key != line {
			out.WriteString(key)
			line = key
		}
		out.WriteString(" " + g.Privilege)
		if g.Column != "" {
			out.WriteString("(" + g.Column + ")")
		}
	}
	return out.String()
}

func TestI6_GroupRolesAreNothingElse(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	type role struct {
		Name     string
		Powers   bool
		MemberOf []string
	}
	roles := pgtest.Query[role](t, d, `
		SELECT r.rolname::text,
		       r.rolcanlogin OR r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls,
		       ARRAY(SELECT pg_get_userbyid(m.roleid)::text FROM pg_auth_members m WHERE m.member = r.oid)
		FROM pg_roles r WHERE r.rolname = 'vault_owner' OR r.rolname = ANY ($1) ORDER BY 1`,
		slices.Collect(maps.Keys(logins)))
	if len(roles) != len(logins)+1 {
		t.Errorf("the roles are %v", roles)
	}
	for _, r := range roles {
		if r.Powers || len(r.MemberOf) > 0 {
			t.Errorf("%s: has attributes of its own: %v; is a member of %q", r.Name, r.Powers, r.MemberOf)
		}
	}
}

// A grant without a policy would blind a process, a policy without a grant would wait for one.
func TestI6_GroupRolesSeeTheRowsOfWhatTheyWereGranted(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	populate(t, d)
	for group, login := range logins {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, d, login)
			for _, table := range relations(t, d) {
				readable := pgtest.Query[bool](t, d, "SELECT has_any_column_privilege($1, $2::regclass, 'SELECT')", group, table)[0]
				policy := pgtest.Query[bool](t, d, `
					SELECT EXISTS (SELECT FROM pg_policies WHERE schemaname = 'vault'
					               AND format('vault.%I', tablename) = $2 AND $1::name = ANY (roles))`, group, table)[0]
				if readable != policy {
					t.Errorf("%s: granted %v, has a policy %v", table, readable, policy)
				}
				refused := try(t, conn, "SELECT count(*) FROM "+table)
				if (refused == nil) != readable || !readable && refused.Code != denied {
					t.Errorf("%s: granted %v, error %v", table, readable, refused)
				}
				if readable && value[int](t, conn, "SELECT count(*) FROM "+table) == 0 {
					t.Errorf("%s sees no row of %s", group, table)
				}
			}
		})
	}
}
