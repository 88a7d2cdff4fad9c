// Package targetpg gives tests a PostgreSQL of its own to rotate passwords at: it asks for SCRAM over TCP, logs every statement, and tells
// which password a role has.
//
// Invariants:
//   - It belongs to one test, and nothing of it is left when the test ends.
//   - Passwords are looked at as the server stores them, by verifier, so that looking changes nothing and counts as no login.
package targetpg

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/pgserver"
)

// Trusted is the name of a role that is let in without a password, if a test makes it. Everybody is let in at the database "trusting".
const Trusted = "trusted"

// Server is a running server.
type Server struct {
	// Address is its host:port.
	Address string

	server *pgserver.Server
	mu     sync.Mutex
	conn   *pgx.Conn // the superuser's, over the socket
}

// patience keeps what never answers from hanging a test.
const patience = 2 * time.Minute

// Start starts a server. It ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	binaries, err := pgserver.Find(os.Getenv, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	s := &Server{}
	for attempt := 0; s.server == nil; attempt++ {
		port := 20000 + mathrand.IntN(12000) // below those that systems give to clients
		s.Address = "127.0.0.1:" + strconv.Itoa(port)
		s.server, err = pgserver.Start(ctx, binaries, pgserver.Config{
			TCPPort:  port,
			Settings: map[string]string{"log_statement": "all", "max_connections": "200", "shared_buffers": "16MB", "max_wal_size": "256MB"},
		})
		if err != nil && attempt == 5 {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if s.conn != nil {
			_ = s.conn.Close(context.Background())
		}
		if err := s.server.Discard(); err != nil {
			t.Error(err)
		}
	})
	hba := "local all all trust\nhost trusting all 127.0.0.1/32 trust\nhost all " + Trusted + " 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(s.server.DataDir(), "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "SELECT pg_reload_conf()")
	s.Exec(t, "CREATE DATABASE trusting")
	return s
}

// Exec runs a statement as the superuser.
func (s *Server) Exec(t testing.TB, sql string) {
	t.Helper()
	s.query(t, sql, nil)
}

func (s *Server) query(t testing.TB, sql string, dest any, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.conn == nil || s.conn.IsClosed() {
		if s.conn, err = pgx.Connect(ctx, s.server.URL("postgres", "postgres")); err != nil {
			t.Fatal(err)
		}
	}
	if dest == nil {
		_, err = s.conn.Exec(ctx, sql, args...)
	} else {
		err = s.conn.QueryRow(ctx, sql, args...).Scan(dest)
	}
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Role makes a role that may change its own password, and gives that. Attributes are PostgreSQL's, such as CREATEROLE.
func (s *Server) Role(t testing.TB, name, attributes string) (password string) {
	t.Helper()
	password = rand.Text()
	role := pgx.Identifier{name}.Sanitize()
	s.Exec(t, fmt.Sprintf("CREATE ROLE %s LOGIN %s PASSWORD '%s'", role, attributes, password))
	s.Exec(t, `GRANT SET ON PARAMETER "sealkeep.generation" TO `+role)
	return password
}

// Admin makes a role that may change the passwords of those roles, and gives its own.
func (s *Server) Admin(t testing.TB, name string, of ...string) (password string) {
	t.Helper()
	password = s.Role(t, name, "CREATEROLE")
	for _, role := range of {
		s.Exec(t, fmt.Sprintf("GRANT %s TO %s WITH ADMIN OPTION", pgx.Identifier{role}.Sanitize(), pgx.Identifier{name}.Sanitize()))
	}
	return password
}

// Set gives a role a password by hand, past everybody.
func (s *Server) Set(t testing.TB, role, password string) {
	t.Helper()
	s.Exec(t, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", pgx.Identifier{role}.Sanitize(), password))
}

// Verifier is what the server keeps of a role's password.
func (s *Server) Verifier(t testing.TB, role string) string {
	t.Helper()
	var verifier string
	s.query(t, "SELECT rolpassword FROM pg_authid WHERE rolname = $1", &verifier, role)
	return verifier
}

// Has tells whether that is the role's password.
func (s *Server) Has(t testing.TB, role, password string) bool {
	t.Helper()
	return Matches(t, s.Verifier(t, role), password)
}

// Matches tells whether a verifier is a password's (RFC 5803).
func Matches(t testing.TB, verifier, password string) bool {
	t.Helper()
	parts := strings.FieldsFunc(verifier, func(r rune) bool { return r == '$' || r == ':' })
	if len(parts) != 5 || parts[0] != "SCRAM-SHA-256" {
		t.Fatalf("%q is no verifier", verifier)
	}
	rounds, err := strconv.Atoi(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	salt, stored := decoded(t, parts[2]), decoded(t, parts[3])
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, salted)
	mac.Write([]byte("Client Key"))
	key := sha256.Sum256(mac.Sum(nil))
	return bytes.Equal(key[:], stored)
}

func decoded(t testing.TB, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Login logs in as an application does.
func (s *Server) Login(ctx context.Context, role, password string) error {
	config, err := pgx.ParseConfig("postgres://" + s.Address + "/postgres?sslmode=disable")
	if err != nil {
		return err
	}
	config.User, config.Password = role, password
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	return conn.Close(context.WithoutCancel(ctx))
}

// Log is what the server has logged, every statement among it.
func (s *Server) Log(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile(s.server.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	return text
}
