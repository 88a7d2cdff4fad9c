package vaulttest

import (
	"testing"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/envelope"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Stored is a version as it lies in the database, opened with the master key and past the vault.
type Stored struct {
	Name       string
	Version    int64
	UID        uuid.UUID
	State      string
	DEK        []byte
	Ciphertext []byte
	Username   string
	Value      string
}

type storedRow struct {
	SecretID                      uuid.UUID
	Name                          string
	Version                       int64
	UID                           uuid.UUID
	State                         string
	KMSKeyID                      string
	WrappedDEK, Nonce, Ciphertext []byte
}

// Stored opens every stored version of the secret, or of all secrets if name is empty, by name and version. One that
// doesn't open fails the test.
func (v *Vault) Stored(t testing.TB, name string) []Stored {
	t.Helper()
	keeper := v.keeper(t)
	defer keeper.Close()
	rows := pgtest.Query[storedRow](t, v.DB, `
		SELECT s.id, s.name, v.version, v.version_uid, v.state, v.kms_key_id, v.wrapped_dek, v.nonce, v.ciphertext
		FROM vault.secrets s JOIN vault.secret_versions v ON v.secret_id = s.id
		WHERE $1 IN ('', s.name) ORDER BY s.name, v.version`, name)
	stored := make([]Stored, 0, len(rows))
	for _, r := range rows {
		place := envelope.Place{SecretID: r.SecretID, Name: r.Name, Version: r.Version, VersionUID: r.UID}
		dek, err := keeper.Decrypt(t.Context(), r.WrappedDEK, r.KMSKeyID, dekContext(place))
		if err != nil {
			t.Fatalf("the DEK of %s, version %d: %v", r.Name, r.Version, err)
		}
		plaintext, err := envelope.Open(dek, place, envelope.Sealed{Nonce: r.Nonce, Ciphertext: r.Ciphertext})
		if err != nil {
			t.Fatalf("%s, version %d: %v", r.Name, r.Version, err)
		}
		m, err := secret.DecodeMaterial(plaintext)
		if err != nil {
			t.Fatalf("%s, version %d: %v", r.Name, r.Version, err)
		}
		s := Stored{
			Name: r.Name, Version: r.Version, UID: r.UID, State: r.State, Ciphertext: r.Ciphertext,
			DEK: append([]byte(nil), dek.Reveal()...), Value: string(m.Value.Reveal()),
		}
		if m.Format == secret.Userpass {
			s.Username = string(m.Username.Reveal())
		}
		m.Release()
		plaintext.Release()
		dek.Release()
		stored = append(stored, s)
	}
	return stored
}

// dekContext is the encryption context that binds a version's DEK to its place.
func dekContext(p envelope.Place) kms.Context {
	return kms.NewContext(
		kms.Text("use", "secret"), kms.UUID("secret_id", p.SecretID), kms.Text("name", p.Name), kms.Int("version", p.Version),
	)
}

type rootRow struct {
	KeyID    uuid.UUID
	Purpose  string
	Wrapped  []byte
	KMSKeyID string
}

// Roots unwraps the integrity roots, by purpose.
func (v *Vault) Roots(t testing.TB) map[string][]byte {
	t.Helper()
	keeper := v.keeper(t)
	defer keeper.Close()
	roots := map[string][]byte{}
	for _, r := range pgtest.Query[rootRow](t, v.DB, "SELECT key_id, purpose, wrapped_key, kms_key_id FROM vault.keyring") {
		root, err := keeper.Decrypt(t.Context(), r.Wrapped, r.KMSKeyID, kms.NewContext(
			kms.Text("use", "integrity"), kms.Text("purpose", r.Purpose), kms.UUID("key_id", r.KeyID), kms.UUID("vault_id", v.ID(t)),
		))
		if err != nil {
			t.Fatalf("the root of purpose %s: %v", r.Purpose, err)
		}
		roots[r.Purpose] = append([]byte(nil), root.Reveal()...)
		root.Release()
	}
	return roots
}

// Master gives the master key itself.
func (v *Vault) Master(t testing.TB) []byte {
	t.Helper()
	master, err := kms.ParseMasterKey([]byte(v.MasterKey))
	if err != nil {
		t.Fatal(err)
	}
	defer master.Release()
	return append([]byte(nil), master.Reveal()...)
}

// keeper is one of the test's own, which shares nothing with the process's.
func (v *Vault) keeper(t testing.TB) kms.Keeper {
	t.Helper()
	if v.kms["VAULT_KMS_MODE"] == "aws" {
		keeper, err := kms.NewAWS(t.Context(), kms.AWSConfig{
			KeyID: v.kms["VAULT_KMS_KEY_ID"], Region: v.kms["AWS_REGION"], Endpoint: v.kms["AWS_ENDPOINT_URL_KMS"], Retries: 5,
		})
		if err == nil {
			err = keeper.Resolve(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return keeper
	}
	master := sensitive.Take(v.Master(t))
	defer master.Release()
	keeper, err := kms.NewLocal(master, nil)
	if err != nil {
		t.Fatal(err)
	}
	return keeper
}
