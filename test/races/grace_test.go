package races

import (
	"net/http"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// superseded makes a secret whose version 1 is in its grace, and returns when that ends.
func superseded(t *testing.T, v *vaulttest.Vault, name string, graceSecs int) time.Time {
	t.Helper()
	v.Do(t, "POST", "/v1/secrets", map[string]any{
		"name": name, "kind": "manual", "value": "old", "grace_period_secs": graceSecs,
	}).Want(t, http.StatusCreated)
	v.Do(t, "PUT", "/v1/secrets/"+name, map[string]any{"value": "new"}).Want(t, http.StatusOK)
	return pgtest.Query[time.Time](t, v.DB, `SELECT v.expires_at FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id
		WHERE s.name = $1 AND v.version = 1`, name)[0]
}

func databaseTime(t *testing.T, v *vaulttest.Vault) time.Time {
	t.Helper()
	return pgtest.Query[time.Time](t, v.DB, "SELECT clock_timestamp()")[0]
}

// TestI9_OldValueIsValidUntilItExpiresAndNotAfter asks again and again while the grace passes. Each answer is held between two
// looks at the database's clock: whoever was told "valid" asked before the end, and whoever was told "not" heard it after.
func TestI9_OldValueIsValidUntilItExpiresAndNotAfter(t *testing.T) {
	t.Parallel()
	v := vaulttest.New(t, vaulttest.Config{})
	for name, ask := range map[string]func(name string) bool{
		"by-verify": func(name string) bool {
			a := v.Do(t, "POST", "/v1/secrets/"+name+"/verify", map[string]any{"value": "old"}).Want(t, http.StatusOK)
			return a.JSON["valid"] == true
		},
		"by-read": func(name string) bool {
			a := v.Do(t, "GET", "/v1/secrets/"+name+"?version=1", nil)
			if a.Status == http.StatusOK && a.Text("value") == "old" {
				return true
			}
			a.Want(t, http.StatusNotFound)
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			expires := superseded(t, v, name, 1)
			answers := map[bool]int{}
			for answers[false] < 20 {
				before := databaseTime(t, v)
				valid := ask(name)
				after := databaseTime(t, v)
				answers[valid]++
				if valid && !before.Before(expires) {
					t.Errorf("valid at %v, after its end at %v", before, expires)
				}
				if !valid && after.Before(expires) {
					t.Errorf("not valid at %v, before its end at %v", after, expires)
				}
			}
			if answers[true] == 0 {
				t.Error("it was never valid, so this proves nothing")
			}
			if !currentIsValid(t, v, name) {
				t.Error("the current version is not valid")
			}
		})
	}
}

// currentIsValid verifies the current value.
func currentIsValid(t *testing.T, v *vaulttest.Vault, name string) bool {
	t.Helper()
	return v.Do(t, "POST", "/v1/secrets/"+name+"/verify", map[string]any{"value": "new"}).Want(t, http.StatusOK).JSON["valid"] == true
}

// TestI9_TheEndIsTheDatabases moves the end that is stored: what any other clock remembers of it doesn't count.
func TestI9_TheEndIsTheDatabases(t *testing.T) {
	t.Parallel()
	v := vaulttest.New(t, vaulttest.Config{})
	superseded(t, v, "a", 3600)
	verify := func() any {
		return v.Do(t, "POST", "/v1/secrets/a/verify", map[string]any{"value": "old"}).Want(t, http.StatusOK).JSON["valid"]
	}
	if verify() != true {
		t.Error("it isn't valid within its grace")
	}
	v.Made(t, "UPDATE vault.secret_versions SET expires_at = clock_timestamp() WHERE version = 1")
	if verify() != false {
		t.Error("it is valid at its end")
	}
	v.Made(t, "UPDATE vault.secret_versions SET expires_at = clock_timestamp() + interval '1 hour' WHERE version = 1")
	if verify() != true {
		t.Error("it isn't valid before its end")
	}
	if n := v.Do(t, "GET", "/v1/secrets/a/versions", nil).Want(t, http.StatusOK); len(n.JSON["items"].([]any)) != 2 {
		t.Errorf("versions: %s", n.Body)
	}
}

func TestI9_WithoutGraceTheOldValueEndsWithTheUpdate(t *testing.T) {
	t.Parallel()
	v := vaulttest.New(t, vaulttest.Config{})
	superseded(t, v, "a", 0)
	a := v.Do(t, "POST", "/v1/secrets/a/verify", map[string]any{"value": "old"}).Want(t, http.StatusOK)
	if a.JSON["valid"] != false {
		t.Errorf("%s", a.Body)
	}
	v.Do(t, "GET", "/v1/secrets/a?version=1", nil).Want(t, http.StatusNotFound)
}
