package rotation

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/vault"
	"github.com/sealkeep/sealkeep/test/targetpg"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// single makes a secret of one role whose password a login secret's user sets, tried as often as may be.
func single(t *testing.T, v *vaulttest.Vault, target *targetpg.Server, role, password, database string) (name string) {
	t.Helper()
	login(t, v, target, role)
	year := int64(365 * 24 * 3600)
	create(t, v, vault.CreateRequest{
		Name: "db/app", Kind: "automatic", RotationIntervalSecs: &year, Given: userpass(role, password),
		Target: &secret.Target{Postgres: &secret.PostgresTarget{
			Hosts: []string{target.Address}, Mode: secret.ModeSingle, LoginSecret: loginSecret, Database: database, ProbeSecs: secret.MinProbeSecs,
		}},
	})
	return "db/app"
}

// makeDue makes it due now, as time would.
func makeDue(t *testing.T, v *vaulttest.Vault, name string) {
	t.Helper()
	v.Made(t, "UPDATE vault.secrets SET next_rotation_at = now() WHERE name = $1", name)
}

// A server that lets anyone in proves nothing of the password that it was given, so that what it was given never becomes the current version.
func TestTargetThatAsksForNoPasswordIsPermanentlyRefused(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts servers of its own")
	}
	for claim, c := range map[string]struct {
		role, database string
		handed         bool // the target got the new value
	}{
		"in the database": {"app", "trusting", false},
		"of the role":     {targetpg.Trusted, "", true},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			v := vaulttest.New(t, vaulttest.Config{})
			target := targetpg.Start(t)
			password := target.Role(t, c.role, "")
			name := single(t, v, target, c.role, password, c.database)
			makeDue(t, v, name)
			rotator(t, v)
			vaulttest.Eventually(t, "the job is dead", func() bool {
				return len(pgtest.Query[int](t, v.DB, "SELECT 1 FROM vault.rotation_jobs WHERE dead_at IS NOT NULL")) == 1
			})
			type job struct {
				Attempt              int
				Class, Error, Reason string
			}
			died := pgtest.Query[job](t, v.DB, "SELECT attempt, coalesce(class, ''), coalesce(error, ''), reason FROM vault.rotation_jobs")
			if len(died) != 1 || died[0].Attempt != 1 || died[0].Class != "permanent" || !strings.Contains(died[0].Error, "without a password") {
				t.Errorf("the job is %+v", died)
			}
			kept := v.Stored(t, name)
			if len(kept) != 2 || kept[0].State != "current" || kept[1].State != "pending" || kept[0].Value != password {
				t.Fatalf("%d versions are kept", len(kept))
			}
			if at := kept[map[bool]int{false: 0, true: 1}[c.handed]].Value; !target.Has(t, c.role, at) {
				t.Error("the target has another password than expected, so something else was tried")
			}
			read := v.Do(t, http.MethodGet, "/v1/secrets/"+name, nil).Want(t, http.StatusOK)
			if read.Text("password") != password || read.Number("version") != 1 {
				t.Errorf("version %v is read", read.Number("version"))
			}
			records := pgtest.Query[string](t, v.DB, "SELECT convert_from(detail, 'UTF8') FROM vault.audit_log WHERE action = 'rotation.fail' AND outcome = 'dead'")
			if len(records) != 1 || !strings.Contains(records[0], "permanent") || strings.Contains(records[0], kept[1].Value) {
				t.Errorf("the records of it are %v", records)
			}
		})
	}
}
