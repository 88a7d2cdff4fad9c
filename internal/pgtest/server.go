package pgtest

import (
	"os"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgserver"
)

// Server is a server of one test, with a migrated database.
type Server struct {
	*Database
	Postgres *pgserver.Server // to stop, crash and restart
}

// NewServer starts a server with the given settings for a test that stops, crashes or reconfigures PostgreSQL, or makes
// roles. It ends with the test. It takes the programs that pgserver finds, also when SEALKEEP_TEST_POSTGRES_URL is set;
// if there are none then, the test is skipped.
func NewServer(t testing.TB, settings map[string]string) *Server {
	t.Helper()
	if os.Getenv(URLVariable) != "" {
		if _, err := pgserver.Find(os.Getenv, ""); err != nil {
			t.Skipf("needs a server of its own: %v", err)
		}
	}
	c, server, err := ownCluster(settings)
	if err != nil {
		t.Fatal(err)
	}
	c.stop = nil // the database goes with the server
	t.Cleanup(func() {
		if err := server.Discard(); err != nil {
			t.Error(err)
		}
	})
	return &Server{Database: c.database(t, true), Postgres: server}
}
