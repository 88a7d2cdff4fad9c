package vault_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// Somebody lets any column of a secret or a version be NULL, and makes it so. What can't be read is refused for that name alone.
func TestI4_ANullAnywhereIsRefusedAndStopsNobody(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *vault.Config) { c.SealedCacheBytes = 0 })
	ctx := context.Background()
	f.automatic("victim", 3600)
	_, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{
		Name: "victim", CustomMetadata: vault.Optional[map[string]string]{Set: true, Value: map[string]string{"a": "b"}},
	})
	must(t, err)
	for range 2 {
		must(t, disclosed(f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "victim"})))
	}
	f.put("sound", "value")
	f.keepSecrets("kept")
	// Whatever holds a row to its form goes first, as an insider would have it.
	f.db.Exec(t, `DO $$ DECLARE c record; BEGIN
		FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint
			WHERE conrelid IN ('vault.secrets'::regclass, 'vault.secret_versions'::regclass) AND contype <> 'n' ORDER BY contype = 'p' LOOP
			EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I CASCADE', c.t, c.conname); END LOOP;
		FOR c IN SELECT table_name AS t, column_name AS conname FROM information_schema.columns
			WHERE table_schema = 'vault' AND table_name IN ('secrets', 'secret_versions') LOOP
			EXECUTE format('ALTER TABLE vault.%I ALTER COLUMN %I DROP NOT NULL', c.t, c.conname); END LOOP;
	END $$`)

	columns := pgtest.Query[string](t, f.db, `SELECT table_name || '.' || column_name FROM information_schema.columns
		WHERE table_schema = 'vault' AND table_name IN ('secrets', 'secret_versions') ORDER BY 1`)
	tried := 0 // those that are NULL anyway tell nothing
	for _, column := range columns {
		table, name, _ := strings.Cut(column, ".")
		// Whether a plain read meets it: of versions it takes the current one.
		rows := map[string]bool{"name = 'victim'": true}
		if table == "secret_versions" {
			of := "secret_id = (SELECT id FROM vault.secrets WHERE name = 'victim') AND version = "
			rows = map[string]bool{of + "3": true, of + "1": false}
		}
		for where, read := range rows {
			if column == "secret_versions.mac" {
				read = true // every look compares the macs of all
			}
			set := pgtest.Query[int64](t, f.db, "WITH u AS (UPDATE vault."+table+" SET "+name+" = NULL WHERE "+where+" AND "+name+" IS NOT NULL RETURNING 1) SELECT count(*) FROM u")[0]
			if set == 0 {
				continue
			}
			tried++
			f.triesNull(column+" of "+where, read)
			f.putBackSecrets("kept")
		}
	}
	if tried < 26 {
		t.Errorf("%d columns were NULL of %q, so this proves little", tried, columns)
	}
	must(t, f.reads(f.admin, "victim"))
}

// triesNull asks for both secrets at once, by each lookup that there is.
func (f *fixture) triesNull(what string, read bool) {
	f.t.Helper()
	ctx := context.Background()
	before := f.alarms()
	var all sync.WaitGroup
	var plain, verified error
	for range 4 {
		all.Go(func() {
			if err := f.reads(f.admin, "sound"); err != nil {
				f.t.Errorf("%s: another secret's read: %v", what, err)
			}
		})
		all.Go(func() {
			if v, err := f.vault.Verify(ctx, f.admin, "sound", text("value")); err != nil || !v.Valid {
				f.t.Errorf("%s: another secret's verification: %v, %v", what, v.Valid, err)
			}
		})
	}
	all.Go(func() { plain = f.reads(f.admin, "victim") })
	all.Go(func() { _, verified = f.vault.Verify(ctx, f.admin, "victim", text("guess")) })
	all.Wait()
	if read && fault.KindOf(plain) != fault.Internal {
		f.t.Errorf("%s: a read: %v", what, plain)
	}
	if fault.KindOf(verified) != fault.Unavailable {
		f.t.Errorf("%s: a verification: %v", what, verified)
	}
	if f.alarms() == before {
		f.t.Errorf("%s: nobody is told", what)
	}
	for use, try := range map[string]func() error{
		"rotate":   func() error { return disclosed(f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "victim"})) },
		"update":   func() error { return f.describe("victim") },
		"versions": func() error { _, err := f.vault.Versions(ctx, f.admin, "victim"); return err },
	} {
		if err := try(); err == nil || fault.KindOf(err) != fault.Internal {
			f.t.Errorf("%s: %s: %v", what, use, err)
		}
	}
}
