package postgres_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// fill makes n secrets app/1 to app/n with three versions each: one past its grace, one in it, and the current one.
func fill(t *testing.T, d *pgtest.Database, n int) {
	t.Helper()
	d.Exec(t, `INSERT INTO vault.secrets (id, name, kind, format, current_version)
		SELECT md5('s' || n)::uuid, 'app/' || n, 'manual', 'opaque', 3 FROM generate_series(1, $1::int) n`, n)
	d.Exec(t, `INSERT INTO vault.secret_versions (secret_id, version, version_uid, state, expires_at, kms_key_id, wrapped_dek, nonce, ciphertext)
		SELECT md5('s' || n)::uuid, v, gen_random_uuid(), CASE v WHEN 3 THEN 'current' ELSE 'superseded' END,
		       CASE v WHEN 1 THEN now() - interval '1 hour' WHEN 2 THEN now() + interval '1 hour' END,
		       'key', 'wrapped', repeat('n', 24)::bytea, ('sealed' || n || '/' || v)::bytea
		FROM generate_series(1, $1::int) n, generate_series(1, 3) v`, n)
}

func lookupConn(t *testing.T, database *postgres.DB) *postgres.LookupConn {
	t.Helper()
	conn, err := database.LookupConn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	return conn
}

// sealed looks one secret up.
func sealed(t *testing.T, conn *postgres.LookupConn, name string) postgres.SealedSecret {
	t.Helper()
	found, err := conn.Sealed(t.Context(), []postgres.Wanted{{Name: name, All: true}})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d secrets are called %s: %v", len(found), name, err)
	}
	return found[0]
}

// held is a secret's version as it was looked up.
func held(s postgres.SealedSecret, version int) postgres.Held {
	v := s.Versions[version]
	return postgres.Held{SecretID: s.ID, Secret: s.Tuple, VersionUID: v.UID, Version: v.Tuple}
}

func TestSealed_FindsTheValidVersionsOfManyAtOnce(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	fill(t, d, 3)
	d.Exec(t, "DELETE FROM vault.secret_versions WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = 'app/2')")
	d.Exec(t, "ALTER TABLE vault.secret_versions DROP CONSTRAINT secret_versions_finite")
	d.Exec(t, "UPDATE vault.secret_versions SET created_at = 'infinity', expires_at = CASE version WHEN 1 THEN 'infinity'::timestamptz ELSE expires_at END WHERE secret_id = md5('s3')::uuid")
	// Rows that somebody lays beside the table are none of the vault's.
	d.Exec(t, `CREATE TABLE public.beside () INHERITS (vault.secret_versions);
		INSERT INTO public.beside SELECT * FROM vault.secret_versions WHERE secret_id = md5('s1')::uuid AND version = 3`)
	found, err := lookupConn(t, open(t, d.URL("sealkeep_api"))).Sealed(t.Context(), []postgres.Wanted{{Name: "app/3", All: true}, {Name: "app/none"}, {Name: "app/1"}, {Name: "app/2"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range found {
		got = append(got, s.Name)
		for _, v := range s.Versions {
			got = append(got, fmt.Sprintf("%d %s %s", v.Version, v.State, v.Ciphertext))
		}
	}
	want := []string{
		"app/1", "3 current sealed1/3", "app/2",
		"app/3", "3 current sealed3/3", "2 superseded sealed3/2", "1 superseded sealed3/1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if v := found[2].Versions[2]; v.ExpiresAt == nil || v.ExpiresAt.Year() != 1970 || v.CreatedAt.Year() != 1970 {
		t.Errorf("infinite times came as %v and %v", v.ExpiresAt, v.CreatedAt)
	}
	if s := found[0]; s.All || !found[2].All {
		t.Error("who asked for all versions is confused with who asked for one")
	}
}

// Each of these writes, by the superuser, must show in the round that would let an answer leave.
func TestAppend_TellsWhichHeldRowsAreNoLongerWhatTheyWere(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	fill(t, d, 4)
	database := open(t, d.URL("sealkeep_api"))
	conn, lookup, s := auditConn(t, database), lookupConn(t, database), openStream(t, d)
	stale := func(of ...postgres.Held) []int {
		t.Helper()
		a := s.next(1)
		a.Held = of
		result := commits(t, conn, a)
		s.moved(a)
		return slices.Clone(result.Stale)
	}
	one, two, three := sealed(t, lookup, "app/1"), sealed(t, lookup, "app/2"), sealed(t, lookup, "app/3")
	if got := stale(held(one, 0), held(two, 1), held(three, 0)); len(got) != 0 {
		t.Fatalf("nothing was written, and %v are stale", got)
	}

	for what, statement := range map[string]string{
		"an update of nothing":               "UPDATE vault.secret_versions SET state = state WHERE secret_id = $1 AND version = 3",
		"another ciphertext":                 "UPDATE vault.secret_versions SET ciphertext = 'x' WHERE secret_id = $1 AND version = 3",
		"an expiry":                          "UPDATE vault.secret_versions SET state = 'superseded', expires_at = now() WHERE secret_id = $1 AND version = 3",
		"a write to the secret":              "UPDATE vault.secrets SET description = 'x' WHERE id = $1",
		"another name":                       "UPDATE vault.secrets SET name = 'app/renamed' WHERE id = $1",
		"another current version":            "UPDATE vault.secrets SET current_version = 2 WHERE id = $1",
		"a delete of the version":            "DELETE FROM vault.secret_versions WHERE secret_id = $1 AND version = 3",
		"a delete of the secret":             "DELETE FROM vault.secrets WHERE id = $1",
		"a version in another secret's name": "UPDATE vault.secret_versions SET secret_id = md5('s4')::uuid, version = 9, state = 'pending' WHERE secret_id = $1 AND version = 3",
	} {
		if what == "another current version" {
			d.Exec(t, "UPDATE vault.secrets SET name = 'app/2', description = '' WHERE id = $1", two.ID)
		}
		before := sealed(t, lookup, "app/2")
		d.Exec(t, strings.Replace(statement, "$1", "'"+two.ID.String()+"'", 1))
		if got := stale(held(one, 0), held(before, 0), held(three, 0)); !slices.Equal(got, []int{1}) {
			t.Errorf("%s: stale are %v, want the second", what, got)
		}
		// As it was.
		d.Exec(t, "DELETE FROM vault.secrets WHERE id IN ($1, md5('s4')::uuid)", two.ID)
		d.Exec(t, "INSERT INTO vault.secrets (id, name, kind, format, current_version) VALUES ($1, 'app/2', 'manual', 'opaque', 3), (md5('s4')::uuid, 'app/4', 'manual', 'opaque', 3)", two.ID)
		d.Exec(t, `INSERT INTO vault.secret_versions (secret_id, version, version_uid, state, kms_key_id, wrapped_dek, nonce, ciphertext)
			VALUES ($1, 3, gen_random_uuid(), 'current', 'key', 'wrapped', repeat('n', 24)::bytea, 'sealed')`, two.ID)
	}

	t.Run("a version whose time is over, though nobody wrote", func(t *testing.T) {
		// The same tuples, before and after: the first version's time was over when it was made.
		tuple := func(version int) (h postgres.Held) {
			t.Helper()
			type row struct {
				Secret, Version         pgtype.TID
				SecretXmin, VersionXmin uint32
				UID                     uuid.UUID
			}
			r := pgtest.Query[row](t, d, `SELECT s.ctid, v.ctid, s.xmin, v.xmin, v.version_uid FROM vault.secrets s
				JOIN vault.secret_versions v ON v.secret_id = s.id WHERE s.id = $1 AND v.version = $2`, three.ID, version)[0]
			h.Secret = postgres.Tuple{Block: r.Secret.BlockNumber, Offset: r.Secret.OffsetNumber, Xmin: r.SecretXmin}
			h.Version = postgres.Tuple{Block: r.Version.BlockNumber, Offset: r.Version.OffsetNumber, Xmin: r.VersionXmin}
			h.SecretID, h.VersionUID = three.ID, r.UID
			return h
		}
		if got := stale(tuple(1), tuple(2), tuple(3)); !slices.Equal(got, []int{0}) {
			t.Errorf("stale are %v, want the first, which has expired", got)
		}
	})
	t.Run("another number of valid versions", func(t *testing.T) {
		all := held(one, 0)
		all.Valid = 2
		if got := stale(all); len(got) != 0 {
			t.Errorf("two are valid, and %v are stale", got)
		}
		d.Exec(t, "UPDATE vault.secret_versions SET expires_at = now() + interval '1 hour' WHERE secret_id = $1 AND version = 1", one.ID)
		if got := stale(all); !slices.Equal(got, []int{0}) {
			t.Errorf("a third one is valid, and stale are %v", got)
		}
		all.Valid = 0
		if got := stale(all); len(got) != 0 {
			t.Errorf("nobody asked for their number, and %v are stale", got)
		}
	})
	t.Run("another row where it was, though the same transaction wrote it", func(t *testing.T) {
		// A table that is written anew keeps who wrote its rows, and not where they lie.
		another, version := held(one, 0), held(one, 0)
		another.SecretID, version.VersionUID = two.ID, uuid.New()
		if got := stale(held(one, 0), another, version); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("stale are %v", got)
		}
	})
	t.Run("a row without a uid, which no vault writes, and nobody else's answer", func(t *testing.T) {
		d.Exec(t, "ALTER TABLE vault.secret_versions ALTER version_uid DROP NOT NULL")
		d.Exec(t, "UPDATE vault.secret_versions SET version_uid = NULL, expires_at = now() + interval '1 hour' WHERE secret_id = $1 AND version = 1", three.ID)
		type row struct {
			Place pgtype.TID
			Xmin  uint32
		}
		r := pgtest.Query[row](t, d, "SELECT ctid, xmin FROM vault.secret_versions WHERE version_uid IS NULL")[0]
		without := held(one, 0)
		without.Version = postgres.Tuple{Block: r.Place.BlockNumber, Offset: r.Place.OffsetNumber, Xmin: r.Xmin}
		if got := stale(held(one, 0), without); !slices.Equal(got, []int{1}) {
			t.Errorf("stale are %v", got)
		}
	})
	t.Run("many, in order", func(t *testing.T) {
		unknown := held(one, 0)
		unknown.Secret.Block = 1 << 20
		if got := stale(unknown, held(one, 0), unknown, unknown, held(one, 0)); !slices.Equal(got, []int{0, 2, 3}) {
			t.Errorf("stale are %v", got)
		}
	})
}

func TestI6_AChangeUnderOtherGrantsIsRefused(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	database, s := open(t, d.URL("sealkeep_api")), openStream(t, d)
	try := func(epoch int64, bumps bool) error {
		t.Helper()
		tx := begin(t, database)
		defer tx.Rollback(t.Context())
		tx.UnderEpoch(epoch)
		if bumps {
			if err := tx.BumpEpoch(t.Context()); err != nil {
				return err
			}
		}
		_, err := tx.Append(t.Context(), s.next(1))
		return err
	}
	for epoch, allowed := range map[int64]bool{0: true, 1: true, 2: false, 7: false} {
		for _, bumps := range []bool{false, true} {
			err := try(epoch, bumps)
			if allowed != (err == nil) || !allowed && !strings.Contains(err.Error(), postgres.ErrGrantsMoved.Error()) {
				t.Errorf("under epoch %d, bumping %t: %v", epoch, bumps, err)
			}
		}
	}
}

var scan = regexp.MustCompile(`(Scan.*) on (\w+)`)

// scans lists the tables that a session's prepared statements read from end to end, by the plans that it keeps: every scan
// that has no condition on an index and no place to look at.
func scans(t *testing.T, session interface{ Raw() *pgx.Conn }) (statements int, tables []string) {
	t.Helper()
	ask := func(sql string) []string {
		t.Helper()
		rows, err := session.Raw().Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return lines
	}
	executions := ask(`SELECT format('EXPLAIN EXECUTE %I(%s)', name, rtrim(repeat('NULL,', cardinality(parameter_types)), ','))
		FROM pg_prepared_statements WHERE statement LIKE '%vault._%' AND statement NOT LIKE '%pg_prepared%'`)
	for _, execution := range executions {
		plan := ask(execution)
		for i, line := range plan {
			m := scan.FindStringSubmatch(line)
			if m == nil || strings.Contains(line, "Function Scan") || strings.Contains(line, "CTE Scan") {
				continue
			}
			if m[2] == "authz_state" {
				continue // it has one row
			}
			if i+1 == len(plan) || !strings.Contains(plan[i+1], "Index Cond") && !strings.Contains(plan[i+1], "TID Cond") {
				tables = append(tables, m[2])
			}
		}
	}
	return len(executions), tables
}

// What every read runs finds its rows by their keys, whatever the statistics say of the tables: here that they are empty,
// as they are when a process starts on a new vault that then grows.
func TestHotStatementsFindRowsByTheirKeys(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	database := open(t, d.URL("sealkeep_api"))
	conn, lookup, s := auditConn(t, database), lookupConn(t, database), openStream(t, d)
	fill(t, d, 1)
	d.Exec(t, "ANALYZE vault.secrets, vault.secret_versions, vault.audit_streams")
	found := sealed(t, lookup, "app/1")
	for _, of := range [][]postgres.Held{nil, {held(found, 0)}} {
		a := s.next(1)
		a.Held = of
		commits(t, conn, a)
		s.moved(a)
	}
	for name, session := range map[string]struct {
		session    interface{ Raw() *pgx.Conn }
		statements int
	}{"audit": {conn, 2}, "lookup": {lookup, 1}} {
		n, tables := scans(t, session.session)
		if n != session.statements || len(tables) > 0 {
			t.Errorf("%s: %d statements, of which some read these from end to end: %v", name, n, tables)
		}
		// As a session would without its settings.
		for _, statement := range []string{"SET enable_seqscan = on", "SET enable_hashjoin = on", "SET enable_mergejoin = on", "DISCARD PLANS"} {
			if _, err := session.session.Raw().Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		if _, tables := scans(t, session.session); len(tables) == 0 {
			t.Errorf("%s: without the session's settings nothing is read from end to end either: this test sees nothing", name)
		}
	}
}
