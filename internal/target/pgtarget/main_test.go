package pgtarget

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/sealkeep/sealkeep/internal/pgserver"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/target"
)

// The databases of the test server, named for what pg_hba.conf asks of those who connect to them.
const (
	asksSCRAM     = "app"
	asksCleartext = "cleartext"
	asksMD5       = "hashed"
	asksNothing   = "trusting"
	another       = "another" // asks for SCRAM as well
	checks        = "checked" // and this one, which also checks passwords
)

// limit keeps what never answers from hanging a test.
const limit = 2 * time.Minute

// server is a PostgreSQL that listens on TCP, with statements logged.
type server struct {
	*pgserver.Server
	address string
	names   atomic.Int64

	mu   sync.Mutex
	conn *pgx.Conn // the superuser's
}

// shared is the server of all tests, made at its first use.
var shared struct {
	sync.Mutex
	*server
	err error
}

type stopping struct{ m *testing.M }

func (s stopping) Run() int {
	code := s.m.Run()
	if shared.server != nil {
		if err := shared.stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	return code
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(stopping{m}) }

// setup returns the test server, which is there as soon as somebody needs it.
func setup(t *testing.T) *server {
	t.Helper()
	needPrograms(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = start(pgserver.Config{})
		if shared.err == nil {
			shared.err = shared.server.furnish()
		}
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// needPrograms skips a test where only a server of somebody else's is named, whose pg_hba.conf isn't ours.
func needPrograms(t *testing.T) {
	t.Helper()
	if _, err := pgserver.Find(os.Getenv, ""); err != nil && os.Getenv("SEALKEEP_TEST_POSTGRES_URL") != "" {
		t.Skipf("needs a server of its own: %v", err)
	}
}

// startServer starts a server of one test's own.
func startServer(t *testing.T, config pgserver.Config) *server {
	t.Helper()
	needPrograms(t)
	s, err := start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func start(config pgserver.Config) (*server, error) {
	binaries, err := pgserver.Find(os.Getenv, "")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	settings := map[string]string{
		"autovacuum": "off", "log_statement": "all", "log_min_duration_statement": "0", "shared_buffers": "16MB", "max_wal_size": "256MB",
	}
	for name, value := range config.Settings {
		settings[name] = value
	}
	config.Settings = settings
	for attempt := 1; ; attempt++ {
		config.TCPPort = 20000 + mathrand.IntN(12000) // below those that systems give to clients
		s, err := pgserver.Start(ctx, binaries, config)
		if err == nil {
			return &server{Server: s, address: fmt.Sprintf("127.0.0.1:%d", config.TCPPort)}, nil
		}
		if attempt == 5 {
			return nil, err
		}
	}
}

func (s *server) stop() error {
	if s.conn != nil {
		_ = s.conn.Close(context.Background())
	}
	return s.Discard()
}

// furnish makes the databases, and has the server ask for passwords.
func (s *server) furnish() error {
	hba := "local all all trust\nhost replication all 127.0.0.1/32 trust\n"
	for database, method := range map[string]string{asksNothing: "trust", asksCleartext: "password", asksMD5: "md5"} {
		hba += fmt.Sprintf("host %s all 127.0.0.1/32 %s\n", database, method)
	}
	hba += "host all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(s.DataDir(), "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		return err
	}
	statements := []string{"SELECT pg_reload_conf()"}
	for _, database := range []string{asksSCRAM, asksCleartext, asksMD5, asksNothing, another, checks} {
		statements = append(statements, "CREATE DATABASE "+database)
	}
	statements = append(statements, "ALTER DATABASE "+checks+" SET session_preload_libraries = 'passwordcheck'")
	for _, statement := range statements {
		if err := s.run(statement); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) run(sql string, dest ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		var err error
		if s.conn, err = s.connect(ctx, "postgres"); err != nil {
			return err
		}
	}
	if len(dest) > 0 {
		return s.conn.QueryRow(ctx, sql).Scan(dest...)
	}
	_, err := s.conn.Exec(ctx, sql)
	return err
}

// connect is the superuser's own connection, over the socket.
func (s *server) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, s.URL("postgres", database)+"&default_query_exec_mode=exec")
}

// exec runs a statement as the superuser.
func (s *server) exec(t *testing.T, sql string) {
	t.Helper()
	if err := s.run(sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// value returns what a query as the superuser gives; "" for NULL and for no row.
func (s *server) value(t *testing.T, sql string) string {
	t.Helper()
	var value string
	if err := s.run("SELECT coalesce(("+sql+")::text, '')", &value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// until waits for a condition of the server's; only the test's own deadline ends the wait otherwise.
func (s *server) until(t *testing.T, condition string) {
	t.Helper()
	for s.value(t, condition) != "true" {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// major is the major version of the server.
func (s *server) major(t *testing.T) int {
	t.Helper()
	var major int
	if err := s.run("SELECT current_setting('server_version_num')::int / 10000", &major); err != nil {
		t.Fatal(err)
	}
	return major
}

// state is what the server keeps of a role: the generation and the verifier.
func (s *server) state(t *testing.T, role string) string {
	t.Helper()
	return s.value(t, "SELECT coalesce(array_to_string(r.rolconfig, ' '), '') || ' ' || a.rolpassword FROM pg_authid a JOIN pg_roles r USING (oid)"+
		" WHERE a.rolname = "+literal(role))
}

// odd is in the names of roles: whatever may need quoting.
const odd = `o'd"d \ ` + "\n" + `$1 %s ü;--`

// named gives a name that nothing on the server has.
func (s *server) named(what string) string { return fmt.Sprintf("%s %d", what, s.names.Add(1)) }

// role makes a role that may log in and rotate itself, and returns it with its password.
func (s *server) role(t *testing.T, attributes string) target.Credential {
	t.Helper()
	c := s.bareRole(t, "LOGIN "+attributes)
	s.exec(t, `GRANT SET ON PARAMETER "sealkeep.generation" TO `+identifier(c.Username))
	return c
}

// bareRole makes a role with these attributes alone.
func (s *server) bareRole(t *testing.T, attributes string) target.Credential {
	t.Helper()
	c := credential(t, s.named(odd), rand.Text())
	s.exec(t, fmt.Sprintf("CREATE ROLE %s %s PASSWORD %s", identifier(c.Username), attributes, literal(string(c.Password.Reveal()))))
	return c
}

func credential(t *testing.T, name, password string) target.Credential {
	t.Helper()
	c := target.Credential{Username: name, Password: sensitive.CopyString(password)}
	t.Cleanup(c.Password.Release)
	return c
}

// fresh is a new password for the same role.
func fresh(t *testing.T, c target.Credential) target.Credential {
	t.Helper()
	return credential(t, c.Username, rand.Text())
}

// at is a target on the server.
func (s *server) at(t *testing.T, database string) *Target {
	t.Helper()
	return newTarget(t, Config{Hosts: []string{s.address}, Database: database})
}

func newTarget(t *testing.T, cfg Config) *Target {
	t.Helper()
	if cfg.Database == "" {
		cfg.Database = asksSCRAM
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = limit
	}
	tg, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}
