package postgres_test

import (
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

func TestCheckLogin_AsksForTheProgramsGroup(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	for _, c := range []struct {
		login, group    string
		refused, strong bool
	}{
		{"sealkeep_api", "vault_api", false, false},
		{"sealkeep_operator", "vault_api", true, false},
		{"sealkeep_operator", "vault_operator", false, false},
		{"migrator", "vault_api", true, false},
		{"postgres", "vault_api", false, true},
	} {
		db, err := postgres.Open(t.Context(), postgres.Config{ConnString: database.URL(c.login), Process: "login"})
		if err != nil {
			t.Fatal(err)
		}
		strong, err := db.CheckLogin(t.Context(), c.group)
		db.Close()
		if (err != nil) != c.refused || strong != c.strong {
			t.Errorf("%s for %s: strong: %t, error: %v", c.login, c.group, strong, err)
		}
		if err != nil && !strings.Contains(err.Error(), c.login) {
			t.Errorf("%s for %s: %v doesn't name the login", c.login, c.group, err)
		}
	}
}
