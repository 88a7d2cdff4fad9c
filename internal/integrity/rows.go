package integrity

import (
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/canon"
)

// The rows that carry authority, each as its table has it, without mac and key_id. Times are whole microseconds.

// Role is a row of vault.roles.
type Role struct {
	ID          uuid.UUID
	Name        string
	Description string
	IsAdmin     bool
	CreatedAt   time.Time
}

// Permission is a row of vault.role_permissions.
type Permission struct {
	RoleID uuid.UUID
	Action string
	Path   string
}

// Token is a row of vault.admin_tokens.
type Token struct {
	ID          uuid.UUID
	Name        string
	RoleID      uuid.UUID
	Fingerprint []byte // SHA-256 of the token
	CreatedAt   time.Time
	ExpiresAt   *time.Time
	RevokedAt   *time.Time
}

// Secret is a row of vault.secrets.
type Secret struct {
	ID                   uuid.UUID
	Name                 string
	Kind                 string
	Format               string
	Description          string
	RotationIntervalSecs *int64
	GracePeriodSecs      int64
	CurrentVersion       int64
	NextRotationAt       *time.Time
	Target               []byte
	CustomMetadata       []byte
	CreatedAt            time.Time
	UpdatedAt            time.Time
	Revision             int64  // of the secret and its versions' rows: every change of any of them raises it
	VersionsDigest       []byte // [DigestVersions] of all its versions' rows
	Rotation             []byte // nil in most rows, which are MACed as they were before the table had this column
}

// Version is a row of vault.secret_versions; of its ciphertext only the hash.
type Version struct {
	SecretID         uuid.UUID
	Version          int64
	UID              uuid.UUID
	State            string
	KMSKeyID         string
	WrappedDEK       []byte
	Nonce            []byte
	CiphertextSHA256 []byte
	CreatedAt        time.Time
	ExpiresAt        *time.Time
	WrappedAt        time.Time
}

// Tombstone is a row of vault.deleted_secrets.
type Tombstone struct {
	SecretID  uuid.UUID
	Name      string
	Revision  int64 // one more than the secret had
	DeletedAt time.Time
}

// RotationControl is the row of vault.rotation_control.
type RotationControl struct {
	Paused    bool
	Revision  int64
	ChangedAt time.Time
}

// Fetch is a row of vault.rotation_fetches.
type Fetch struct {
	Fingerprint []byte // SHA-256 of the token
	SecretID    uuid.UUID
	VersionUID  uuid.UUID
	CreatedAt   time.Time
	ExpiresAt   time.Time
}

// Key is a row of vault.keyring, whose own id is key_id: the root that its MAC is under is mac_key_id.
type Key struct {
	KeyID     uuid.UUID
	Purpose   Purpose
	Wrapped   []byte
	PublicKey []byte
	KMSKeyID  string
	CreatedAt time.Time
	RetiredAt *time.Time
}

// Grants is the row of vault.authz_state: the snapshot of all roles, permissions and tokens.
type Grants struct {
	VaultID     uuid.UUID
	Epoch       int64
	Initialised bool
	Digest      [32]byte // [DigestGrants] of all their rows
}

func (Role) label() string            { return canon.LabelRow("roles") }
func (Permission) label() string      { return canon.LabelRow("role_permissions") }
func (Token) label() string           { return canon.LabelRow("admin_tokens") }
func (Secret) label() string          { return canon.LabelRow("secrets") }
func (Version) label() string         { return canon.LabelRow("secret_versions") }
func (Tombstone) label() string       { return canon.LabelRow("deleted_secrets") }
func (RotationControl) label() string { return canon.LabelRow("rotation_control") }
func (Fetch) label() string           { return canon.LabelRow("rotation_fetches") }
func (Key) label() string             { return canon.LabelRow("keyring") }
func (Grants) label() string          { return canon.LabelAuthz }

func (r Role) fields(dst []byte) []byte {
	dst = canon.UUID(dst, r.ID)
	dst = canon.Text(dst, r.Name)
	dst = canon.Text(dst, r.Description)
	dst = flag(dst, r.IsAdmin)
	return canon.Time(dst, r.CreatedAt)
}

func (p Permission) fields(dst []byte) []byte {
	dst = canon.UUID(dst, p.RoleID)
	dst = canon.Text(dst, p.Action)
	return canon.Text(dst, p.Path)
}

func (t Token) fields(dst []byte) []byte {
	dst = canon.UUID(dst, t.ID)
	dst = canon.Text(dst, t.Name)
	dst = canon.UUID(dst, t.RoleID)
	dst = canon.Bytes(dst, t.Fingerprint)
	dst = canon.Time(dst, t.CreatedAt)
	dst = canon.NullableTime(dst, t.ExpiresAt)
	return canon.NullableTime(dst, t.RevokedAt)
}

func (s Secret) fields(dst []byte) []byte {
	dst = canon.UUID(dst, s.ID)
	dst = canon.Text(dst, s.Name)
	dst = canon.Text(dst, s.Kind)
	dst = canon.Text(dst, s.Format)
	dst = canon.Text(dst, s.Description)
	dst = canon.NullableInt(dst, s.RotationIntervalSecs)
	dst = canon.Int(dst, s.GracePeriodSecs)
	dst = canon.Int(dst, s.CurrentVersion)
	dst = canon.NullableTime(dst, s.NextRotationAt)
	dst = canon.NullableBytes(dst, s.Target)
	dst = canon.NullableBytes(dst, s.CustomMetadata)
	dst = canon.Time(dst, s.CreatedAt)
	dst = canon.Time(dst, s.UpdatedAt)
	dst = canon.Int(dst, s.Revision)
	dst = canon.NullableBytes(dst, s.VersionsDigest)
	if s.Rotation == nil {
		return dst
	}
	return canon.Bytes(dst, s.Rotation)
}

func (v Version) fields(dst []byte) []byte {
	dst = canon.UUID(dst, v.SecretID)
	dst = canon.Int(dst, v.Version)
	dst = canon.UUID(dst, v.UID)
	dst = canon.Text(dst, v.State)
	dst = canon.Text(dst, v.KMSKeyID)
	dst = canon.Bytes(dst, v.WrappedDEK)
	dst = canon.Bytes(dst, v.Nonce)
	dst = canon.Bytes(dst, v.CiphertextSHA256)
	dst = canon.Time(dst, v.CreatedAt)
	dst = canon.NullableTime(dst, v.ExpiresAt)
	return canon.Time(dst, v.WrappedAt)
}

func (t Tombstone) fields(dst []byte) []byte {
	dst = canon.UUID(dst, t.SecretID)
	dst = canon.Text(dst, t.Name)
	dst = canon.Int(dst, t.Revision)
	return canon.Time(dst, t.DeletedAt)
}

func (r RotationControl) fields(dst []byte) []byte {
	dst = flag(dst, r.Paused)
	dst = canon.Int(dst, r.Revision)
	return canon.Time(dst, r.ChangedAt)
}

func (f Fetch) fields(dst []byte) []byte {
	dst = canon.Bytes(dst, f.Fingerprint)
	dst = canon.UUID(dst, f.SecretID)
	dst = canon.UUID(dst, f.VersionUID)
	dst = canon.Time(dst, f.CreatedAt)
	return canon.Time(dst, f.ExpiresAt)
}

func (r Key) fields(dst []byte) []byte {
	dst = canon.UUID(dst, r.KeyID)
	dst = canon.Text(dst, string(r.Purpose))
	dst = canon.Bytes(dst, r.Wrapped)
	dst = canon.NullableBytes(dst, r.PublicKey)
	dst = canon.Text(dst, r.KMSKeyID)
	dst = canon.Time(dst, r.CreatedAt)
	return canon.NullableTime(dst, r.RetiredAt)
}

func (g Grants) fields(dst []byte) []byte {
	dst = canon.UUID(dst, g.VaultID)
	dst = canon.Int(dst, g.Epoch)
	dst = flag(dst, g.Initialised)
	return canon.Bytes(dst, g.Digest[:])
}

// flag is a boolean: the integer 1 or 0.
func flag(dst []byte, set bool) []byte {
	if set {
		return canon.Int(dst, 1)
	}
	return canon.Int(dst, 0)
}
