package config

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const masterKey = "4b656570206d6520736563726574206b65657020796f752073656372657400aa"

// base is a configuration without problems; changes are laid over it.
func base(changes map[string]string) map[string]string {
	environ := map[string]string{
		"VAULT_DATABASE_URL":     "postgres://sealkeep_api:pw@db.example/vault",
		"VAULT_KMS_MODE":         "local",
		"VAULT_LOCAL_MASTER_KEY": masterKey,
	}
	maps.Copy(environ, changes)
	return environ
}

func mustLoadAPI(t *testing.T, environ map[string]string) *API {
	t.Helper()
	cfg, err := LoadAPI(environ)
	if err != nil {
		t.Fatalf("LoadAPI: %v", err)
	}
	return cfg
}

// problemsOf gives the problems of a failed load by variable.
func problemsOf(t *testing.T, err error) map[string]string {
	t.Helper()
	var all *Error
	if !errors.As(err, &all) {
		t.Fatalf("got %v, want an *Error", err)
	}
	by := make(map[string]string)
	for _, p := range all.Problems {
		by[p.Variable] += p.Message
	}
	return by
}

func wantProblem(t *testing.T, err error, variable, says string) {
	t.Helper()
	if message := problemsOf(t, err)[variable]; !strings.Contains(message, says) || message == "" {
		t.Errorf("the problem of %s is %q, which lacks %q; all:\n%v", variable, message, says, err)
	}
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
