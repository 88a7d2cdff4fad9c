package integrity

import (
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/canon"
)

// rowVector is a row with what is made of it.
type rowVector struct {
	Label  string
	Fields []struct {
		Name, Type string
		Value      *string
	}
	Key, Encoding, MAC string
}

// columns gives a vector's values by name.
type columns struct {
	tb testing.TB
	v  *rowVector
}

func (c columns) get(name string) *string {
	c.tb.Helper()
	for _, f := range c.v.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	c.tb.Fatalf("%s has no field %s", c.v.Label, name)
	return nil
}

func (c columns) text(name string) string    { return *c.get(name) }
func (c columns) id(name string) uuid.UUID   { return uuid.MustParse(*c.get(name)) }
func (c columns) int(name string) int64      { return *c.nullableInt(name) }
func (c columns) time(name string) time.Time { return *c.nullableTime(name) }

func (c columns) nullableInt(name string) *int64 {
	v := c.get(name)
	if v == nil {
		return nil
	}
	n, err := strconv.ParseInt(*v, 10, 64)
	if err != nil {
		c.tb.Fatal(err)
	}
	return &n
}

func (c columns) nullableTime(name string) *time.Time {
	v := c.get(name)
	if v == nil {
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, *v)
	if err != nil {
		c.tb.Fatal(err)
	}
	return &at
}

func (c columns) bytes(name string) []byte {
	v := c.get(name)
	if v == nil {
		return nil
	}
	return unhex(c.tb, *v)
}

// optional is bytes of a field that most rows don't have.
func (c columns) optional(name string) []byte {
	for _, f := range c.v.Fields {
		if f.Name == name {
			return c.bytes(name)
		}
	}
	return nil
}

// row makes what the code calls the vector.
func (c columns) row() Row {
	c.tb.Helper()
	switch c.v.Label {
	case canon.LabelRow("roles"):
		return Role{ID: c.id("id"), Name: c.text("name"), Description: c.text("description"), IsAdmin: c.int("is_admin") == 1, CreatedAt: c.time("created_at")}
	case canon.LabelRow("role_permissions"):
		return Permission{RoleID: c.id("role_id"), Action: c.text("action"), Path: c.text("path")}
	case canon.LabelRow("admin_tokens"):
		return Token{
			ID: c.id("id"), Name: c.text("name"), RoleID: c.id("role_id"), Fingerprint: c.bytes("token_sha256"), CreatedAt: c.time("created_at"),
			ExpiresAt: c.nullableTime("expires_at"), RevokedAt: c.nullableTime("revoked_at"),
		}
	case canon.LabelRow("secrets"):
		return Secret{
			ID: c.id("id"), Name: c.text("name"), Kind: c.text("kind"), Format: c.text("format"), Description: c.text("description"),
			RotationIntervalSecs: c.nullableInt("rotation_interval_secs"), GracePeriodSecs: c.int("grace_period_secs"), CurrentVersion: c.int("current_version"),
			NextRotationAt: c.nullableTime("next_rotation_at"), Target: c.bytes("target"), CustomMetadata: c.bytes("custom_metadata"),
			CreatedAt: c.time("created_at"), UpdatedAt: c.time("updated_at"), Revision: c.int("revision"), VersionsDigest: c.bytes("versions_digest"),
			Rotation: c.optional("rotation"),
		}
	case canon.LabelRow("secret_versions"):
		return Version{
			SecretID: c.id("secret_id"), Version: c.int("version"), UID: c.id("version_uid"), State: c.text("state"), KMSKeyID: c.text("kms_key_id"),
			WrappedDEK: c.bytes("wrapped_dek"), Nonce: c.bytes("nonce"), CiphertextSHA256: c.bytes("ciphertext_sha256"),
			CreatedAt: c.time("created_at"), ExpiresAt: c.nullableTime("expires_at"), WrappedAt: c.time("wrapped_at"),
		}
	case canon.LabelRow("deleted_secrets"):
		return Tombstone{SecretID: c.id("secret_id"), Name: c.text("name"), Revision: c.int("revision"), DeletedAt: c.time("deleted_at")}
	case canon.LabelRow("rotation_control"):
		return RotationControl{Paused: c.int("paused") == 1, Revision: c.int("revision"), ChangedAt: c.time("changed_at")}
	case canon.LabelRow("rotation_fetches"):
		return Fetch{
			Fingerprint: c.bytes("token_sha256"), SecretID: c.id("secret_id"), VersionUID: c.id("version_uid"), CreatedAt: c.time("created_at"),
			ExpiresAt: c.time("expires_at"),
		}
	case canon.LabelRow("keyring"):
		return Key{
			KeyID: c.id("key_id"), Purpose: Purpose(c.text("purpose")), Wrapped: c.bytes("wrapped_key"), PublicKey: c.bytes("public_key"),
			KMSKeyID: c.text("kms_key_id"), CreatedAt: c.time("created_at"), RetiredAt: c.nullableTime("retired_at"),
		}
	case canon.LabelAuthz:
		return Grants{VaultID: c.id("vault_id"), Epoch: c.int("epoch"), Initialised: c.int("initialised") == 1, Digest: [32]byte(c.bytes("grants_digest"))}
	}
	c.tb.Fatalf("no row has the label %s", c.v.Label)
	return nil
}

func rowVectors(tb testing.TB) (*Keyring, uuid.UUID, []rowVector) {
	tb.Helper()
	var v struct {
		VaultID uuid.UUID `json:"vault_id"`
		KeyID   uuid.UUID `json:"key_id"`
		Root    string
		Rows    []rowVector
	}
	readVectors(tb, "rows.json", &v)
	k, _ := keyringOf(tb, PurposeRow, v.VaultID, v.KeyID, unhex(tb, v.Root))
	if len(v.Rows) < 16 {
		tb.Fatalf("%d rows", len(v.Rows))
	}
	return k, v.KeyID, v.Rows
}

func TestI6_RowVectors(t *testing.T) {
	t.Parallel()
	k, keyID, rows := rowVectors(t)
	var grants [][]byte
	for i := range rows {
		v := &rows[i]
		row := columns{t, v}.row()
		if got := canon.UUID(row.fields(canon.Start(nil, row.label())), keyID); hex.EncodeToString(got) != v.Encoding {
			t.Errorf("%s: encoded as %x", v.Label, got)
		}
		derived, err := derive(k.roots[keyID].key, k.VaultID(), v.Label, keyID)
		if err != nil || hex.EncodeToString(derived.Reveal()) != v.Key {
			t.Errorf("%s: the key differs: %v", v.Label, err)
		}
		derived.Release()
		mac, under, err := k.MAC(row)
		if err != nil || hex.EncodeToString(mac) != v.MAC || under != keyID {
			t.Errorf("%s: mac %x under %s: %v", v.Label, mac, under, err)
		}
		if err := k.Check(row, mac, &under); err != nil {
			t.Errorf("%s: its own mac: %v", v.Label, err)
		}
		switch {
		case strings.HasSuffix(v.Label, "roles/v1"), strings.Contains(v.Label, "role_permissions"), strings.Contains(v.Label, "admin_tokens"):
			grants = append(grants, mac)
		}
	}
	last := columns{t, &rows[len(rows)-1]}
	slices.Reverse(grants) // the order that they come in is nobody's
	if digest := DigestGrants(grants); string(digest[:]) != string(last.bytes("grants_digest")) {
		t.Errorf("the digest of the grants is %x", digest)
	}
}

func TestI6_NoOtherMACPasses(t *testing.T) {
	t.Parallel()
	k, keyID, rows := rowVectors(t)
	other := uuid.New()
	for i := range rows {
		row := columns{t, &rows[i]}.row()
		mac, _, err := k.MAC(row)
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			mac  []byte
			key  *uuid.UUID
			want error
		}{
			"none": {nil, &keyID, ErrForged}, "no key": {mac, nil, ErrForged}, "a shorter one": {mac[:31], &keyID, ErrForged},
			"a longer one": {append(slices.Clone(mac), 0), &keyID, ErrForged}, "an empty one": {[]byte{}, &keyID, ErrForged},
			"under a key that isn't there": {mac, &other, ErrUnknownKey},
		} {
			if err := k.Check(row, c.mac, c.key); !errors.Is(err, c.want) {
				t.Errorf("%s: %s: %v", rows[i].Label, name, err)
			}
		}
		for j := range rows {
			if passes := k.Check(columns{t, &rows[j]}.row(), mac, &keyID) == nil; passes != (i == j) {
				t.Errorf("the mac of row %d passes for row %d: %v", i, j, passes)
			}
		}
	}
}

// A row key is of one purpose: no other root makes or checks the MACs of rows.
func TestI6_OnlyRowRootsMakeRowKeys(t *testing.T) {
	t.Parallel()
	k, root := keyringOf(t, PurposeAudit, vaultA, uuid.New(), sequence(7, 32))
	if _, _, err := k.MAC(Role{}); !errors.Is(err, ErrNoRoot) {
		t.Errorf("a mac without a row root: %v", err)
	}
	if err := k.Check(Role{}, make([]byte, 32), &root.KeyID); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("a check under an audit root: %v", err)
	}
}

func TestDigests_StandForOneList(t *testing.T) {
	t.Parallel()
	a, b := sequence(1, 32), sequence(2, 32)
	if DigestVersions([][]byte{a, b}) == DigestVersions([][]byte{b, a}) {
		t.Error("the order of versions doesn't count")
	}
	for _, list := range [][][]byte{{a}, {b}, {a, a}, {a, b, b}, {}, {a, nil}, {append(a, b...)}} {
		if DigestVersions(list) == DigestVersions([][]byte{a, b}) {
			t.Errorf("%d macs have the digest of two", len(list))
		}
	}
}
