package vault_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// A secret has at least one version for as long as it is there.
func TestVersionsOfASecretThatIsBeingDeletedAreNeverNone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	var done atomic.Bool
	var readers sync.WaitGroup
	var found atomic.Int64
	for range 3 {
		readers.Go(func() {
			for !done.Load() {
				versions, err := f.vault.Versions(ctx, f.admin, "fleeting")
				switch {
				case err == nil && len(versions) == 0:
					t.Error("a secret without a version")
				case err == nil:
					found.Add(1)
				case fault.KindOf(err) != fault.NotFound:
					t.Errorf("kind %s: %v", fault.KindOf(err), err)
				}
			}
		})
	}
	for range 100 {
		f.put("fleeting", "a value")
		must(t, f.vault.Delete(ctx, f.admin, "fleeting", vault.Precondition{}))
	}
	done.Store(true)
	readers.Wait()
	if found.Load() == 0 {
		t.Error("the secret was never seen, so this proves nothing")
	}
}

// A change that makes a version removes superseded ones whose grace has ended, but for the newest sixteen, and nothing else.
func TestVersionsWhoseGraceHasEndedAreBounded(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.automatic("s", 3600)
	f.automatic("untouched", 0)
	rotate := func(request string) {
		t.Helper()
		s, err := f.vault.Rotate(ctx, f.as(request), vault.RotateRequest{Name: "s"})
		must(t, err)
		s.Release()
	}
	state := func() (all []string) {
		t.Helper()
		return pgtest.Query[string](t, f.db, `SELECT version || CASE WHEN state <> 'superseded' THEN ' ' || state WHEN expires_at > now() THEN ' valid' ELSE '' END
			FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id WHERE s.name = 's' ORDER BY version`)
	}
	rotate("graced") // the first is valid for an hour
	_, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: "s", GracePeriodSecs: vault.Optional[int64]{Set: true, Value: 0}})
	must(t, err)
	for range 3 {
		rotate("ungraced")
	}
	f.made(`UPDATE vault.secret_versions SET state = CASE version WHEN 3 THEN 'abandoned' ELSE 'pending' END, expires_at = NULL WHERE version IN (3, 4)`)
	for range secret.MaxEndedVersions - 1 {
		rotate("within")
	}
	whole := []string{"1 valid", "2", "4 pending"}
	for n := 5; n < 5+secret.MaxEndedVersions-1; n++ {
		whole = append(whole, fmt.Sprint(n))
	}
	whole = append(whole, "20 current")
	if got := state(); !slices.Equal(got, whole) {
		t.Fatalf("there are %q, want %q", got, whole)
	}

	rotate("beyond")
	want := slices.Concat(whole[:1], whole[2:len(whole)-1], []string{"20", "21 current"})
	if got := state(); !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
	// A change of a value does likewise, and one without a version removes nothing.
	f.put("m", "0")
	for i := range secret.MaxEndedVersions + 10 {
		_, err := f.vault.Update(ctx, f.as(fmt.Sprint("update ", i)), vault.UpdateRequest{Name: "m", Given: text(fmt.Sprint(i + 1))})
		must(t, err)
	}
	must(t, f.describe("m"))
	versions, err := f.vault.Versions(ctx, f.admin, "m")
	must(t, err)
	if len(versions) != secret.MaxEndedVersions+1 {
		t.Errorf("%d versions stay", len(versions))
	}

	// What stays is as the vault wrote it, and the trail tells of what went.
	other := f.other()
	for name, number := range map[string]int64{"s": 1, "m": 27} {
		s, err := other.vault.Read(ctx, f.admin, vault.ReadRequest{Name: name, Version: number})
		must(t, err)
		s.Release()
		must(t, other.reads(f.admin, name))
	}
	verdict, err := other.vault.Verify(ctx, f.admin, "m", text("26"))
	must(t, err)
	if !verdict.Valid {
		t.Error("the current value isn't valid")
	}
	removed := pgtest.Query[string](t, f.db, "SELECT request_id FROM vault.audit_log WHERE convert_from(detail, 'UTF8')::jsonb->>'versions_removed' = '1' ORDER BY 1")
	if len(removed) != 12 || !slices.Contains(removed, "within") || !slices.Contains(removed, "beyond") || !slices.Contains(removed, "update 25") {
		t.Errorf("a removal is told of by %q", removed)
	}
	// The tests' own edits have no record, so only the other one is compared.
	for _, finding := range f.examine(true).Findings {
		if !strings.Contains(finding.What, `secret "s"`) {
			t.Errorf("an examination finds: %s", finding.What)
		}
	}
	if _, err := f.rotateKeyring(vault.KeyRotation{Purposes: []integrity.Purpose{integrity.PurposeRow}}); err != nil {
		t.Errorf("keyring rotate: %v", err)
	}
	f.put("after", "x")
	must(t, other.reads(f.admin, "m"))
}
