package postgres_test

import (
	"context"
	"encoding/binary"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// open opens a database as one of its users, with parameters added to the connection string.
func open(t *testing.T, address string, parameters ...string) *postgres.DB {
	t.Helper()
	return openWith(t, postgres.Config{ConnString: address}, parameters...)
}

func openWith(t *testing.T, cfg postgres.Config, parameters ...string) *postgres.DB {
	t.Helper()
	cfg.Process, cfg.ConnString = "tested", withParameters(t, cfg.ConnString, parameters...)
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 30 * time.Second // a machine may be slow
	}
	database, err := postgres.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(database.Close)
	return database
}

// withParameters adds names and values to the query of a URL.
func withParameters(t *testing.T, address string, parameters ...string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	for i := 0; i < len(parameters); i += 2 {
		query.Set(parameters[i], parameters[i+1])
	}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // a plus sign is no space to libpq
	return u.String()
}

func auditConn(t *testing.T, database *postgres.DB) *postgres.AuditConn {
	t.Helper()
	conn, err := database.AuditConn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// stream is an audit stream as its owner knows it.
type stream struct {
	id, key uuid.UUID
	seq     int64
	mac     []byte
}

// openStream makes a stream, with a key for it, by the superuser.
func openStream(t *testing.T, d *pgtest.Database) *stream {
	t.Helper()
	s := &stream{id: uuid.New(), key: uuid.New(), mac: mac(0)}
	d.Exec(t, "INSERT INTO vault.authz_state (vault_id, epoch, initialised) VALUES (gen_random_uuid(), 1, true) ON CONFLICT DO NOTHING")
	d.Exec(t, "INSERT INTO vault.keyring (key_id, purpose, wrapped_key, kms_key_id) VALUES ($1, 'audit', 'x', 'x')", s.key)
	d.Exec(t, `INSERT INTO vault.audit_streams (stream_id, process, kind, opened_at, head_mac, head_at, system_id, timeline, key_id)
		VALUES ($1, 'tested', 'read', now(), $2, now(), 'x', 1, $3)`, s.id, s.mac, s.key)
	return s
}

// mac stands for the MAC of record seq.
func mac(seq int64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 24), uint64(seq))
}

// next asks for n more records of a stream. Nothing about them is wrong.
func (s *stream) next(n int) postgres.Append {
	a := postgres.Append{StreamID: s.id, KeyID: s.key, OldSeq: s.seq, OldMAC: s.mac}
	for i := range n {
		a.Records = append(a.Records, postgres.Record{
			At: time.Now().Truncate(time.Microsecond), Actor: "somebody", Action: "read", Outcome: "allowed",
			RequestID: "r", MAC: mac(s.seq + int64(i) + 1),
		})
	}
	return a
}

// moved is the stream after an append took effect.
func (s *stream) moved(a postgres.Append) {
	s.seq += int64(len(a.Records))
	s.mac = a.Records[len(a.Records)-1].MAC
}

// state is what the database says of a stream: its head and the sequence numbers of its records.
type state struct {
	HeadSeq int64
	HeadMAC []byte
	Records []int64
}

func stateOf(t *testing.T, d *pgtest.Database, s *stream) state {
	t.Helper()
	return pgtest.Query[state](t, d, `
		SELECT head_seq, head_mac, ARRAY(SELECT seq FROM vault.audit_log l WHERE l.stream_id = s.stream_id ORDER BY seq)
		FROM vault.audit_streams s WHERE stream_id = $1`, s.id)[0]
}

// role inserts a role, for a transaction that needs something to commit.
func role(t *testing.T, tx *postgres.Tx, name string) {
	t.Helper()
	if err := tx.InsertRole(t.Context(), db.InsertRoleParams{ID: uuid.New(), Name: name}); err != nil {
		t.Fatal(err)
	}
}

func roles(t *testing.T, d *pgtest.Database, name string) int {
	t.Helper()
	return pgtest.Query[int](t, d, "SELECT count(*) FROM vault.roles WHERE name = $1", name)[0]
}

func begin(t *testing.T, database *postgres.DB) *postgres.Tx {
	t.Helper()
	tx, err := database.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}
