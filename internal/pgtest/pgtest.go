// Package pgtest gives tests a real PostgreSQL: a server of their own that is started at the first use in a test
// process, and databases that are cloned from a migrated template in a fraction of the time that migrating takes.
// Only tests may import it.
//
// The server is whatever internal/pgserver finds, or the one that SEALKEEP_TEST_POSTGRES_URL, a superuser's URL,
// names. Roles belong to a whole server: they are made once, by the migrations and here, and tests share them.
//
// Invariants:
//
//   - Every database belongs to one test: tests run in parallel, and packages do, without meeting.
//   - A clone has what the migrated database has, its access rights included.
//   - Nothing is left behind by a process that ends in any way, kill -9 included. On the server of
//     SEALKEEP_TEST_POSTGRES_URL the next test process drops what a killed one left; only roles stay.
//   - Main leaves no goroutine for goleak to find.
package pgtest

import (
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// URLVariable names the environment variable with a superuser's URL of the server to use instead of our own.
const URLVariable = "SEALKEEP_TEST_POSTGRES_URL"

// Superuser is the user name that stands for the server's superuser, whatever that is called.
const Superuser = "postgres"

// Migrator is the login that owns every database: CREATEROLE, no superuser, as migrations ask for.
const Migrator = "migrator"

// logins are made beside the migrator, each a member of one group role.
var logins = map[string]string{
	"sealkeep_api":       "vault_api",
	"sealkeep_rotator":   "vault_rotator",
	"sealkeep_auditship": "vault_auditship",
	"sealkeep_operator":  "vault_operator",
}

// Database is a database of one test.
type Database struct {
	t       testing.TB
	cluster *cluster
	name    string

	mu    sync.Mutex
	conn  *pgx.Conn // for Exec and Query
	super *pgx.Conn // for Super
}

// New returns a migrated database, which is dropped when the test ends, whoever is still connected.
func New(t testing.TB) *Database {
	t.Helper()
	return sharedCluster(t).database(t, true)
}

// NewEmpty returns a database that is not migrated and belongs to "migrator". The group roles and logins exist.
func NewEmpty(t testing.TB) *Database {
	t.Helper()
	return sharedCluster(t).database(t, false)
}

// Name returns the database's name.
func (d *Database) Name() string { return d.name }

// URL returns the URL for one of the users "postgres" (the superuser), "migrator", "sealkeep_api",
// "sealkeep_rotator", "sealkeep_auditship" and "sealkeep_operator", or one that the test has made: over the socket,
// if the server is our own.
func (d *Database) URL(user string) string { return d.cluster.url(user, d.name) }

// TCPURL is URL over TCP, for a test that puts a proxy in between. On a server of SEALKEEP_TEST_POSTGRES_URL that is
// reached over a socket it fails the test.
func (d *Database) TCPURL(user string) string {
	d.t.Helper()
	address := d.cluster.tcpURL(user, d.name)
	if address == "" {
		d.t.Fatalf("this test needs TCP, and the server of %s is reached over a socket", URLVariable)
	}
	return address
}

// overTCP returns a URL if its host is one to connect to by TCP, else "".
func overTCP(u *url.URL) string {
	host := u.Hostname()
	if host == "" {
		host = u.Query().Get("host")
	}
	if host == "" || filepath.IsAbs(host) {
		return ""
	}
	return u.String()
}
