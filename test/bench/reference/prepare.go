package reference

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/test/bench/dataset"
)

// Sizes of what the vault stores for a value, in bytes, so that rows are as large as its own.
type Sizes struct {
	WrappedDEK int
	Ciphertext int
	KMSKeyID   int
}

// The tables are the vault's own, made by its own migrations: the same columns, constraints, indexes and partitions. What is
// bare here goes without row security and triggers. The audits of d and e have tables without chain and partitions.
const bareSQL = `
DO $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind IN ('r', 'p') LOOP
        EXECUTE format('ALTER TABLE vault.%I DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', t.relname);
    END LOOP;
    FOR t IN SELECT c.relname, g.tgname FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
             WHERE c.relnamespace = 'vault'::regnamespace AND NOT g.tgisinternal AND g.tgparentid = 0 LOOP
        EXECUTE format('DROP TRIGGER %I ON vault.%I', t.tgname, t.relname);
    END LOOP;
END
$$;
CREATE SCHEMA reference;
CREATE TABLE reference.access_d (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    actor       text NOT NULL,
    client_ip   inet,
    action      text NOT NULL,
    secret_name text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    outcome     text NOT NULL,
    request_id  text NOT NULL
);
CREATE TABLE reference.access_e (LIKE reference.access_d INCLUDING ALL);`

// Prepare makes the references' database on the server that admin reaches as its superuser, with n secrets to read and n to
// update, and lanes streams for writers. database gives the URL of a database by its name. It returns what the servers'
// Config needs but for their kind.
func Prepare(ctx context.Context, database func(name string) string, n, lanes int, sizes Sizes) (Config, error) {
	return prepare(ctx, database, "reference", lanes, func(conn *pgx.Conn, aead cipher.AEAD) error {
		return errors.Join(fill(ctx, conn, aead, dataset.Hot, n, sizes), fill(ctx, conn, aead, dataset.Changed, n, sizes))
	})
}

// PrepareRotations makes another such database, with n secrets that are due, and lanes streams for those who rotate them.
func PrepareRotations(ctx context.Context, database func(name string) string, n, lanes int, sizes Sizes) (Config, error) {
	return prepare(ctx, database, "reference_rotations", lanes, func(conn *pgx.Conn, aead cipher.AEAD) error {
		if err := fill(ctx, conn, aead, dataset.Rotated, n, sizes); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "UPDATE vault.secrets SET kind = 'automatic', rotation_interval_secs = $1, grace_period_secs = $2, next_rotation_at = now()",
			dataset.IntervalSecs, dataset.GraceSecs)
		return err
	})
}

func prepare(ctx context.Context, database func(string) string, name string, lanes int, fill func(*pgx.Conn, cipher.AEAD) error) (Config, error) {
	if err := postgres.MakeDatabase(ctx, database("postgres"), name); err != nil {
		return Config{}, err
	}
	c := Config{URL: database(name), Key: make([]byte, chacha20poly1305.KeySize), Lanes: lanes}
	if err := postgres.Migrate(ctx, c.URL); err != nil {
		return Config{}, fmt.Errorf("migrating the references' database: %w", err)
	}
	_, _ = rand.Read(c.Key) // it never fails: the program would have ended
	conn, err := dedicated(ctx, c.URL)
	if err != nil {
		return Config{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, bareSQL); err != nil {
		return Config{}, fmt.Errorf("making the references' tables: %w", err)
	}
	aead, err := chacha20poly1305.NewX(c.Key)
	if err != nil {
		return Config{}, err
	}
	if err := errors.Join(fill(conn, aead), openStreams(ctx, conn, lanes)); err != nil {
		return Config{}, fmt.Errorf("filling the references' tables: %w", err)
	}
	_, err = conn.Exec(ctx, "VACUUM (ANALYZE)")
	return c, err
}

// fill stores n secrets of a folder.
func fill(ctx context.Context, conn *pgx.Conn, aead cipher.AEAD, folder string, n int, sizes Sizes) error {
	now := time.Now()
	secrets, versions := make([][]any, n), make([][]any, n)
	for i := range n {
		id, name := uuid.New(), dataset.Name(folder, i)
		s := seal(aead, name, []byte(dataset.Value(i)), sizes)
		secrets[i] = []any{id, name, "manual", "opaque", 1, now, now, someMAC(), someMAC(), laneID(0)}
		versions[i] = []any{id, 1, uuid.New(), "current", s.kmsKeyID, s.wrappedDEK, s.nonce, s.ciphertext, someMAC(), laneID(0)}
	}
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"vault", "secrets"},
		[]string{"id", "name", "kind", "format", "current_version", "created_at", "updated_at", "versions_digest", "mac", "key_id"}, pgx.CopyFromRows(secrets))
	if err != nil {
		return err
	}
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"vault", "secret_versions"},
		[]string{"secret_id", "version", "version_uid", "state", "kms_key_id", "wrapped_dek", "nonce", "ciphertext", "mac", "key_id"}, pgx.CopyFromRows(versions))
	return err
}

// someMAC stands for a MAC, or a digest of MACs: as long, and nobody checks it.
func someMAC() []byte {
	mac := make([]byte, 32)
	_, _ = rand.Read(mac)
	return mac
}

// laneID is the id of stream i; stream 0 is that of Validated, the others are those of Bare.
func laneID(i int) uuid.UUID { return uuid.UUID{0: 0xbe, 15: byte(i)} }

func openStreams(ctx context.Context, conn *pgx.Conn, lanes int) error {
	queries := db.New(conn)
	if err := queries.InsertAuthzState(ctx, db.InsertAuthzStateParams{VaultID: laneID(0), Epoch: 1, Initialised: true}); err != nil {
		return err
	}
	if err := queries.InsertKey(ctx, db.InsertKeyParams{
		KeyID: laneID(0), Purpose: "audit", WrappedKey: []byte("none"), KmsKeyID: "none", CreatedAt: time.Now(),
	}); err != nil {
		return err
	}
	for i := range lanes + 1 {
		kind := "change"
		if i == 0 {
			kind = "read"
		}
		err := queries.OpenStream(ctx, db.OpenStreamParams{
			StreamID: laneID(i), Process: "reference", Kind: kind, OpenedAt: time.Now(), HeadMac: make([]byte, 32),
			SystemID: "reference", Timeline: 1, KeyID: laneID(0),
		})
		if err != nil {
			return err
		}
	}
	return nil
}
