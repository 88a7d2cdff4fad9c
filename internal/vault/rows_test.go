package vault_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// metric gives a metric's value, that of the label if there is one.
func (f *fixture) metric(name, label string) float64 {
	f.t.Helper()
	families, err := f.metrics.Gather()
	must(f.t, err)
	for _, family := range families {
		if family.GetName() != "sealkeep_vault_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			if label == "" || m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	f.t.Fatalf("there is no metric %s %s", name, label)
	return 0
}

// wantOutcomes asks which records a request left.
func (f *fixture) wantOutcomes(request string, want ...string) {
	f.t.Helper()
	if got := f.outcomes(request); !slices.Equal(got, want) {
		f.t.Errorf("request %s left %q, want %q", request, got, want)
	}
}

// readAs reads as the admin, under a request id.
func (f *fixture) readAs(request, name string) (string, error) {
	f.t.Helper()
	return f.readBy(f.as(request), name)
}

func (f *fixture) readBy(c vault.Caller, name string) (string, error) {
	f.t.Helper()
	s, err := f.vault.Read(context.Background(), c, vault.ReadRequest{Name: name})
	if err != nil {
		return "", err
	}
	defer s.Release()
	return string(s.Material.Value.Reveal()), nil
}

func TestRowsThatAreKeptAreNotLookedUpAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("s", "value")
	for range 5 {
		if got := f.read("s"); got != "value" {
			t.Errorf("read %q", got)
		}
	}
	if hits, misses := f.metric("sealed_lookups_total", "hit"), f.metric("sealed_lookups_total", "miss"); hits != 4 || misses != 1 {
		t.Errorf("%v hits and %v misses", hits, misses)
	}
	if rows, bytes := f.metric("sealed_rows", ""), f.metric("sealed_bytes", ""); rows != 1 || bytes < 500 {
		t.Errorf("%v rows of %v bytes are kept", rows, bytes)
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	for bytes, few := range map[uint64]bool{0: true, limit: false} {
		f := setup(t, func(c *vault.Config) { c.SealedCacheBytes = bytes })
		for i := range 200 {
			f.put(fmt.Sprintf("s/%d", i), fmt.Sprint("value", i))
		}
		for range 2 {
			for i := range 200 {
				if got := f.read(fmt.Sprintf("s/%d", i)); got != fmt.Sprint("value", i) {
					t.Fatalf("read %q", got)
				}
			}
		}
		if kept := f.metric("sealed_bytes", ""); kept > limit || few != (kept == 0) {
			t.Errorf("with a limit of %d, %v bytes are kept", bytes, kept)
		}
	}
}

// What another process, or somebody with a database shell, does to a row that is kept here is seen by the next read.
func TestI2_NothingStaleLeaves(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	other := f.other()
	version := func(name string) string {
		return "(SELECT id FROM vault.secrets WHERE name = '" + name + "') AND state = 'current'"
	}
	for what, c := range map[string]struct {
		change func(name string)
		want   string // the value, or nothing
		kind   fault.Kind
		last   string
	}{
		"an update": {func(name string) {
			_, err := other.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: name, Given: text("new")})
			must(t, err)
		}, "new", 0, "secret.read ok"},
		"an update of something else": {func(name string) {
			_, err := other.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: name, Description: vault.Optional[string]{Set: true, Value: "x"}})
			must(t, err)
		}, "old", 0, "secret.read ok"},
		"a delete": {func(name string) {
			must(t, other.vault.Delete(ctx, f.admin, name, vault.Precondition{}))
		}, "", fault.NotFound, "secret.read not_found"},
		"a delete and a new secret of that name": {func(name string) {
			must(t, other.vault.Delete(ctx, f.admin, name, vault.Precondition{}))
			other.put(name, "another")
		}, "another", 0, "secret.read ok"},
		"an edit of the ciphertext": {func(name string) {
			f.db.Exec(t, "UPDATE vault.secret_versions SET ciphertext = ciphertext || 'x' WHERE secret_id = "+version(name))
		}, "", fault.Internal, "secret.read unverifiable"},
		"the row of the version removed": {func(name string) {
			f.db.Exec(t, "DELETE FROM vault.secret_versions WHERE secret_id = "+version(name))
		}, "", fault.Internal, "secret.read unverifiable"},
		"a write that changes nothing": {func(name string) {
			f.db.Exec(t, "UPDATE vault.secret_versions SET state = state WHERE secret_id = "+version(name))
		}, "old", 0, "secret.read ok"},
	} {
		t.Run(what, func(t *testing.T) {
			name := fmt.Sprintf("s/%x", what)
			f.put(name, "old")
			if got := f.read(name); got != "old" {
				t.Fatalf("read %q", got)
			}
			c.change(name)
			got, err := f.readAs(name, name)
			if got != c.want || c.want == "" && fault.KindOf(err) != c.kind {
				t.Errorf("read %q: %v", got, err)
			}
			f.wantOutcomes(name, "secret.read ok", "secret.read withheld", c.last)
		})
	}
	if n := f.metric("withheld_total", "changed"); n != 7 {
		t.Errorf("%v answers were withheld", n)
	}
	for _, problem := range f.verifyTrail().Problems {
		t.Errorf("the trail: %+v", problem)
	}
}

func TestI2_BatchAndVerifyRestOnTheirRowsToo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	other := f.other()
	batch := func(request string, names ...string) []string {
		t.Helper()
		list, err := f.vault.ReadBatch(ctx, f.as(request), names)
		must(t, err)
		var values []string
		for _, s := range list {
			values = append(values, string(s.Material.Value.Reveal()))
			s.Release()
		}
		return values
	}
	f.put("a", "a1")
	f.put("b", "b1")
	if got := batch("first", "a", "none", "b"); !slices.Equal(got, []string{"a1", "b1"}) {
		t.Errorf("the batch holds %q", got)
	}
	_, err := other.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: "b", Given: text("b2")})
	must(t, err)
	if got := batch("second", "a", "none", "b"); !slices.Equal(got, []string{"a1", "b2"}) {
		t.Errorf("the batch holds %q", got)
	}
	f.wantOutcomes("second",
		"secret.read ok", "secret.read not_found", "secret.read ok",
		"secret.read withheld", "secret.read withheld", "secret.read withheld",
		"secret.read ok", "secret.read not_found", "secret.read ok")

	old := f.automatic("v", 600)
	verify := func(request, value string) bool {
		t.Helper()
		verdict, err := f.vault.Verify(ctx, f.as(request), "v", text(value))
		must(t, err)
		return verdict.Valid
	}
	if !verify("before", old) {
		t.Error("the value isn't valid")
	}
	rotated, err := other.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "v"})
	must(t, err)
	defer rotated.Release()
	if !verify("new", string(rotated.Material.Value.Reveal())) {
		t.Error("the new value isn't valid")
	}
	f.wantOutcomes("new", "secret.verify mismatch", "secret.verify withheld", "secret.verify match")
	if !verify("grace", old) {
		t.Error("the old value isn't valid in its grace")
	}
	// No row that was read has changed, but there is one less that is valid, or one more.
	f.db.Exec(t, "CREATE TABLE public.kept AS SELECT * FROM vault.secret_versions WHERE version = 1 AND secret_id = (SELECT id FROM vault.secrets WHERE name = 'v')")
	f.db.Exec(t, "DELETE FROM vault.secret_versions WHERE version = 1 AND secret_id = (SELECT id FROM vault.secrets WHERE name = 'v')")
	_, err = f.vault.Verify(ctx, f.as("gone"), "v", text(old))
	wantKind(t, err, fault.Unavailable)
	f.wantOutcomes("gone", "secret.verify match", "secret.verify withheld", "secret.verify unverifiable")
	f.db.Exec(t, "INSERT INTO vault.secret_versions SELECT * FROM public.kept")
	if !verify("put back", old) {
		t.Error("what was put back as it was isn't valid")
	}
	f.db.Exec(t, `INSERT INTO vault.secret_versions (secret_id, version, version_uid, state, expires_at, kms_key_id, wrapped_dek, nonce, ciphertext)
		SELECT secret_id, 9, gen_random_uuid(), 'superseded', now() + interval '1 hour', kms_key_id, wrapped_dek, nonce, ciphertext
		FROM vault.secret_versions WHERE version = 2 AND secret_id = (SELECT id FROM vault.secrets WHERE name = 'v')`)
	_, err = f.vault.Verify(ctx, f.as("smuggled"), "v", text(old))
	wantKind(t, err, fault.Unavailable)
	f.wantOutcomes("smuggled", "secret.verify match", "secret.verify withheld", "secret.verify unverifiable")
}

// What doesn't verify is never kept, so that it counts as soon as it is mended.
func TestI6_DamageIsNeverKept(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.automatic("mended", 600)
	rotated, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "mended"})
	must(t, err)
	rotated.Release()
	flip := "UPDATE vault.secret_versions SET ciphertext = set_byte(ciphertext, 3, get_byte(ciphertext, 3) # 1) WHERE version = 2"
	f.db.Exec(t, flip)
	_, err = f.vault.Read(ctx, f.admin, vault.ReadRequest{Name: "mended", Version: 1}) // nor is a version beside it told apart
	wantKind(t, err, fault.Internal)
	if n := f.alarms(); n != 1 {
		t.Errorf("%v alarms", n)
	}
	f.db.Exec(t, flip)
	if _, err := f.readAs("after", "mended"); err != nil {
		t.Error(err)
	}
	f.wantOutcomes("after", "secret.read ok")
	list, err := f.vault.ReadBatch(ctx, f.admin, []string{"mended"})
	must(t, err)
	list[0].Release()
	if n := f.alarms(); n != 1 {
		t.Errorf("%v alarms", n)
	}
}

// An answer that can't come to rest ends in 503, and every try has left its records.
func TestAnAnswerIsWithheldABoundedNumberOfTimes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("restless", "value")
	f.keeper.set(func() { f.db.Exec(t, "UPDATE vault.secrets SET description = description WHERE name = 'restless'") }, nil)
	_, err := f.readAs("restless", "restless")
	wantKind(t, err, fault.Unavailable)
	f.keeper.set(nil, nil)
	f.wantOutcomes("restless", slices.Repeat([]string{"secret.read ok", "secret.read withheld"}, 8)...)
	if got := f.read("restless"); got != "value" {
		t.Errorf("read %q", got)
	}
}

func TestI6_GrantsOfAnotherProcessCountAtOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	other := f.other()
	f.put("s", "value")
	reader := f.token("reader", access.Permission{Action: access.Read, Path: "*"})
	permit := func(permissions ...access.Permission) {
		t.Helper()
		_, err := other.vault.SetRolePermissions(ctx, f.admin, "reader", permissions)
		must(t, err)
	}
	by := func(request string) error {
		reader.RequestID = request
		_, err := f.readBy(reader, "s")
		return err
	}
	must(t, by("kept"))
	permit(access.Permission{Action: access.Delete, Path: "*"})
	wantKind(t, by("taken away"), fault.Denied)
	f.wantOutcomes("taken away", "secret.read ok", "secret.read withheld", "secret.read denied")
	permit(access.Permission{Action: access.Read, Path: "s"})
	must(t, by("given back"))
	f.wantOutcomes("given back", "secret.read ok")
	must(t, other.vault.RevokeToken(ctx, f.admin, "reader"))
	wantKind(t, by("revoked"), fault.Unauthenticated)
	if n := f.metric("withheld_total", "grants"); n != 2 {
		t.Errorf("%v answers were withheld", n)
	}

	t.Run("a name that doesn't exist is an answer, too", func(t *testing.T) {
		nosy := f.token("nosy", access.Permission{Action: access.Read, Path: "*"})
		_, err := f.readBy(nosy, "none")
		wantKind(t, err, fault.NotFound)
		must(t, other.vault.RevokeToken(ctx, f.admin, "nosy"))
		nosy.RequestID = "nosy-later"
		_, err = f.readBy(nosy, "none")
		wantKind(t, err, fault.Unauthenticated)
	})
	t.Run("a change that was allowed under grants that are gone isn't made", func(t *testing.T) {
		writer := f.token("writer", access.Permission{Action: access.Create, Path: "*"}, access.Permission{Action: access.Read, Path: "*"})
		_, err := f.readBy(writer, "s")
		must(t, err)
		var once sync.Once
		f.keeper.set(func() { once.Do(func() { must(t, other.vault.RevokeToken(ctx, f.admin, "writer")) }) }, nil)
		defer f.keeper.set(nil, nil)
		writer.RequestID = "writer-late"
		_, err = f.vault.Create(ctx, writer, vault.CreateRequest{Name: "late", Kind: "manual", Given: text("x")})
		wantKind(t, err, fault.Unauthenticated)
		if n := pgtest.Query[int](t, f.db, "SELECT count(*) FROM vault.secrets WHERE name = 'late'")[0]; n != 0 {
			t.Error("it was made")
		}
		f.wantOutcomes("writer-late", "secret.create unauthenticated")
	})
	t.Run("changes of grants don't get in each other's way", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range 24 {
			process := []*fixture{f, other}[i%2]
			all.Go(func() {
				_, err := process.vault.CreateRole(ctx, f.admin, vault.RoleRequest{Name: fmt.Sprintf("role-%d", i)})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

// Who leaves while its rows are looked up costs nobody, and many names go along in one statement.
func TestLookupsAreShared(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *vault.Config) { c.SealedCacheBytes = 0 })
	const n = 40
	for i := range n {
		f.put(fmt.Sprintf("s/%d", i), fmt.Sprint("value", i))
	}
	// The first lookup waits for the table; those behind it queue.
	super := f.db.Super(t)
	tx, err := super.Begin(context.Background())
	must(t, err)
	_, err = tx.Exec(context.Background(), "LOCK TABLE vault.secret_versions IN ACCESS EXCLUSIVE MODE")
	must(t, err)
	var readers sync.WaitGroup
	values := make([]string, n)
	leaving, leave := context.WithCancel(context.Background())
	for i := range n {
		readers.Go(func() {
			ctx := context.Background()
			if i%4 == 3 {
				ctx = leaving
			}
			s, err := f.vault.Read(ctx, f.admin, vault.ReadRequest{Name: fmt.Sprintf("s/%d", i)})
			if err != nil {
				values[i] = fault.KindOf(err).String()
				return
			}
			values[i] = string(s.Material.Value.Reveal())
			s.Release()
		})
	}
	eventually(t, "a lookup waits", func() bool {
		return pgtest.Query[int](t, f.db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%coalesce(s.revision, 0), s.versions_digest,%'")[0] == 1
	})
	before := f.metric("lookup_statements_total", "")
	leave()
	must(t, tx.Rollback(context.Background()))
	readers.Wait()
	if n := f.metric("lookup_statements_total", ""); n > before+2 {
		t.Errorf("%v statements looked the names up that waited", n-before)
	}
	for i, got := range values {
		if want := fmt.Sprint("value", i); got != want && (i%4 != 3 || got != fault.Unavailable.String()) {
			t.Errorf("s/%d was read as %q", i, got)
		}
	}
}

// One row that the server can't put together fails its own readers, and nobody who happens to be in the same statement.
func TestOneRowSpoilsNobodyElsesLookup(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *vault.Config) { c.SealedCacheBytes = 0 })
	names := []string{"poison"}
	for i := range 12 {
		names = append(names, fmt.Sprintf("s/%d", i))
	}
	for _, name := range names {
		f.put(name, "value of "+name)
	}
	f.db.Exec(t, `CREATE POLICY poison ON vault.secrets AS RESTRICTIVE FOR SELECT TO vault_api
		USING (CASE WHEN name = 'poison' THEN 1 / (length(name) - 6) = 0 ELSE true END)`)
	// All but the first wait for it, and go along in one statement.
	super := f.db.Super(t)
	tx, err := super.Begin(context.Background())
	must(t, err)
	_, err = tx.Exec(context.Background(), "LOCK TABLE vault.secret_versions IN ACCESS EXCLUSIVE MODE")
	must(t, err)
	first := make(chan error, 1)
	go func() {
		_, err := f.readAs("first", "s/0")
		first <- err
	}()
	eventually(t, "a lookup waits", func() bool {
		return pgtest.Query[int](t, f.db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%coalesce(s.revision, 0), s.versions_digest,%'")[0] == 1
	})
	values, errs := make([]string, len(names)), make([]error, len(names))
	var readers sync.WaitGroup
	for i, name := range names {
		readers.Go(func() { values[i], errs[i] = f.readAs("joint", name) })
	}
	eventually(t, "all have asked", func() bool { return f.metric("sealed_lookups_total", "miss") == float64(len(names)+1) })
	must(t, tx.Rollback(context.Background()))
	readers.Wait()
	must(t, <-first)
	for i, name := range names {
		if name == "poison" {
			wantKind(t, errs[i], fault.Internal)
		} else if errs[i] != nil || values[i] != "value of "+name {
			t.Errorf("%s was read as %q: %v", name, values[i], errs[i])
		}
	}
}

func TestANameThatDidNotExistIsLookedUpAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	other := f.other()
	_, err := f.readAs("before", "later")
	wantKind(t, err, fault.NotFound)
	other.put("later", "value")
	if got := f.read("later"); got != "value" {
		t.Errorf("read %q", got)
	}
	_, err = f.vault.Read(context.Background(), f.admin, vault.ReadRequest{Name: "later", Version: 2})
	wantKind(t, err, fault.NotFound)
	_, err = other.vault.Update(context.Background(), f.admin, vault.UpdateRequest{Name: "later", Given: text("second")})
	must(t, err)
	s, err := f.vault.Read(context.Background(), f.admin, vault.ReadRequest{Name: "later", Version: 2})
	must(t, err)
	s.Release()
}
