package pgtarget

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestNew_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	many := make([]string, 17)
	for i := range many {
		many[i] = "db:5432"
	}
	ok := func() Config { return Config{Hosts: []string{"db.example:5432", "[::1]:5433"}, Database: "app"} }
	if _, err := New(ok()); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(c *Config){
		"no host":                      func(c *Config) { c.Hosts = nil },
		"too many hosts":               func(c *Config) { c.Hosts = many },
		"too many standbys":            func(c *Config) { c.Standbys = many },
		"a host without a port":        func(c *Config) { c.Hosts = []string{"Zk7"} },
		"a port that is none":          func(c *Config) { c.Hosts = []string{"Zk7:x"} },
		"port 0":                       func(c *Config) { c.Hosts = []string{"Zk7:0"} },
		"a port too high":              func(c *Config) { c.Hosts = []string{"Zk7:65536"} },
		"a socket":                     func(c *Config) { c.Hosts = []string{"/run/Zk7:5432"} },
		"a URL":                        func(c *Config) { c.Hosts = []string{"postgres://Zk7:5432"} },
		"an empty name":                func(c *Config) { c.Hosts = []string{":5432"} },
		"a name with a line break":     func(c *Config) { c.Hosts = []string{"Zk7\n:5432"} },
		"a standby without a port":     func(c *Config) { c.Standbys = []string{"Zk7"} },
		"no database":                  func(c *Config) { c.Database = "" },
		"a database that would be cut": func(c *Config) { c.Database = strings.Repeat("Zk7", 22) },
		"a NUL in the database":        func(c *Config) { c.Database = "Zk7\x00" },
		"a CA that is none":            func(c *Config) { c.CA = []byte("Zk7") },
		"a negative timeout":           func(c *Config) { c.Timeout = -time.Second },
		"a timeout of a day":           func(c *Config) { c.Timeout = 24 * time.Hour },
	} {
		c := ok()
		change(&c)
		pg, err := New(c)
		if pg != nil || err == nil || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if text := fault.Message(err); strings.Contains(text, "Zk7") || !strings.Contains(text, "PostgreSQL target") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// Not parallel, as the environment is the process's.
func TestTarget_TheEnvironmentDoesNotMatter(t *testing.T) {
	s := setup(t)
	role := s.role(t, "")
	home := t.TempDir()
	for name, text := range map[string]string{
		".pgpass": "*:*:*:*:wrong\n", ".pg_service.conf": "[elsewhere]\nhost=192.0.2.1\nuser=nobody\n",
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{
		"HOME": home, "PGHOST": "192.0.2.1", "PGHOSTADDR": "192.0.2.1", "PGPORT": "1", "PGUSER": "nobody", "PGPASSWORD": "wrong",
		"PGDATABASE": "missing", "PGPASSFILE": filepath.Join(home, ".pgpass"),
		"PGSERVICE": "elsewhere", "PGSERVICEFILE": filepath.Join(home, ".pg_service.conf"),
		"PGSSLMODE":     "nonsense",
		"PGSSLROOTCERT": "/nonexistent", "PGSSLCERT": "/nonexistent", "PGSSLKEY": "/nonexistent",
		"PGOPTIONS": "-c transaction_read_only=on",
		"PGAPPNAME": "other", "PGCONNECT_TIMEOUT": "nonsense", "PGTARGETSESSIONATTRS": "standby",
		"PGREQUIREAUTH": "none", "PGCHANNELBINDING": "require", "PGMINPROTOCOLVERSION": "nonsense", "PGCLIENTENCODING": "LATIN1",
	} {
		t.Setenv(name, value)
	}
	pg, next := s.at(t, asksSCRAM), fresh(t, role)
	want(t, "Apply", pg.Apply(t.Context(), role, next, 1), "")
	want(t, "Test", pg.Test(t.Context(), next), "")
	want(t, "Try", pg.Try(t.Context(), next), "")
}
