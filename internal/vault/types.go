package vault

import (
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Optional is a field of a partial update: absent (the zero value) leaves what is there, Null clears it.
type Optional[T any] struct {
	Set   bool // the field was present
	Null  bool // it was present and null; Value is then meaningless
	Value T
}

// Given is secret material as a request presents it; a zero Bytes is an absent field. The edge owns and releases it.
type Given struct {
	Value    sensitive.Bytes // "value": UTF-8 text
	Binary   sensitive.Bytes // "value_base64", decoded
	Username sensitive.Bytes
	Password sensitive.Bytes
}

// CreateRequest asks for a new secret.
type CreateRequest struct {
	Name                 string
	Kind                 string
	Given                Given
	Description          string
	RotationIntervalSecs *int64
	Schedule             *ScheduleRequest
	PasswordPolicy       *secret.PasswordPolicy
	LoginHosts           []string
	Target               *secret.Target
	RotateOnCreate       bool // it is due at once
	GracePeriodSecs      int64
	CustomMetadata       map[string]string
	IdempotencyKey       string // empty, or 1 to 255 bytes of printable ASCII
}

// ScheduleRequest asks for rotation by a cron expression.
type ScheduleRequest struct {
	Cron       string
	TimeZone   string
	WindowSecs int64
	Missed     string // "", "catch_up" or "wait"
}

// UpdateRequest asks for a partial update of a secret.
type UpdateRequest struct {
	Name                 string
	Precondition         Precondition
	Given                Given
	Description          Optional[string]
	RotationIntervalSecs Optional[int64]
	Schedule             Optional[ScheduleRequest]
	PasswordPolicy       Optional[secret.PasswordPolicy]
	LoginHosts           Optional[[]string]
	Target               Optional[secret.Target]
	GracePeriodSecs      Optional[int64]
	CustomMetadata       Optional[map[string]string]
}

// Precondition is a parsed If-Match: the zero value is none, Any is "*", otherwise one of Tags (strong entity tags, quotes
// included) must be the current version's.
type Precondition struct {
	Any  bool
	Tags []string
}

// RotateRequest asks for a new generated value.
type RotateRequest struct {
	Name           string
	IdempotencyKey string // as in CreateRequest
}

// RollbackRequest asks for an older value.
type RollbackRequest struct {
	Name           string
	Version        int64  // one that is still valid, and not the current one
	IdempotencyKey string // as in CreateRequest
}

// Rotated is what came of asking for another value: the new version, if it was made at once, or the job by which a rotator will. The
// receiver must Release it.
type Rotated struct {
	*Secret // nil if there is a job
	Job     *JobView
}

// Release zeroes the material. It is safe to call twice.
func (r *Rotated) Release() {
	if r != nil {
		r.Secret.Release()
	}
}

// ReadRequest asks for one secret's value.
type ReadRequest struct {
	Name    string
	Version int64 // 0 means the current one; another one must still be valid
	// IfNoneMatch holds the entity tags that the client has (quotes included, weak prefix removed); "*" is an element of its own.
	IfNoneMatch []string
}

// Secret is one version of a secret, disclosed or not. The receiver must Release it once it is written.
type Secret struct {
	Name       string
	Kind       secret.Kind
	Format     secret.Format
	Version    int64
	VersionUID uuid.UUID
	CreatedAt  time.Time // of the version
	// Material is nil when the caller may change but not read, and when NotModified.
	Material *secret.Material
	// NotModified tells that the client's entity tag is the current one: answer 304 and nothing else.
	NotModified bool
}

// ETag is the version's strong entity tag, quotes included.
func (s *Secret) ETag() string { return secret.ETag(s.Version, s.VersionUID) }

// Release zeroes the material. It is safe to call twice.
func (s *Secret) Release() {
	if s != nil && s.Material != nil {
		s.Material.Release()
		s.Material = nil
	}
}

// Metadata describes a secret and holds nothing of its value.
type Metadata struct {
	Name                 string
	Kind                 secret.Kind
	Format               secret.Format
	Description          string
	RotationIntervalSecs *int64
	Rotation             secret.Rotation
	Target               *secret.Target
	GracePeriodSecs      int64
	Version              int64 // the current one
	NextRotationAt       *time.Time
	CustomMetadata       map[string]string
	CreatedAt            time.Time
	UpdatedAt            time.Time
	ETag                 string // of the current version where the use case knows it, else empty
}

// VersionMetadata describes one version.
type VersionMetadata struct {
	Version   int64
	State     secret.State
	Valid     bool // it opens and verifies now, by the database's clock
	CreatedAt time.Time
	ExpiresAt *time.Time
}

// Verdict answers a verify.
type Verdict struct {
	Valid   bool
	Version int64 // the matching version; 0 unless Valid
}

// ListRequest asks for one page of metadata.
type ListRequest struct {
	Prefix string
	Limit  int    // 0 means 100; 1 to 1000
	Cursor string // opaque; from the previous page
}

// Page is one page of metadata, by name in byte order.
type Page struct {
	Items      []Metadata
	NextCursor string // empty on the last page
}

// RoleRequest asks for a role.
type RoleRequest struct {
	Name        string
	Description string
	IsAdmin     bool
	Permissions []access.Permission
}

// Role is a named set of permissions.
type Role struct {
	Name        string
	Description string
	IsAdmin     bool
	Permissions []access.Permission
	CreatedAt   time.Time
}

// TokenRequest asks for a token.
type TokenRequest struct {
	Name          string
	Role          string
	ExpiresInSecs *int64 // nil means never; 1 to ten years
}

// IssuedToken is a new token, shown once. The receiver must Release it.
type IssuedToken struct {
	Name      string
	Role      string
	Token     sensitive.Bytes
	CreatedAt time.Time
	ExpiresAt *time.Time
}

// Release zeroes the token. It is safe to call twice.
func (t *IssuedToken) Release() {
	if t != nil {
		t.Token.Release()
	}
}

// Token describes a token and holds nothing of it.
type Token struct {
	Name       string
	Role       string
	CreatedAt  time.Time
	ExpiresAt  *time.Time
	RevokedAt  *time.Time
	LastUsedAt *time.Time
}

// EventsRequest asks for recent audit records, newest first.
type EventsRequest struct {
	Limit int       // 0 means 100; 1 to 1000
	Since time.Time // zero means 24 hours before Until
	Until time.Time // zero means now
}

// Event is one audit record as operators see it.
type Event struct {
	StreamID   uuid.UUID
	Seq        int64
	At         time.Time
	Actor      string
	ClientIP   string // empty if there was none
	Action     string
	SecretName string // empty if there was none
	Version    int64  // 0 if there was none
	Outcome    string
	RequestID  string
	TraceID    string
	Detail     string // JSON text, or empty
}

// Status tells an operator how the process is.
type Status struct {
	VaultID       uuid.UUID
	ReadAuth      string
	SchemaVersion int64
	Secrets       int64
	Versions      int64
	Overdue       int64 // automatic secrets whose rotation is due
	Rotation      RotationStatus
	Database      DatabaseStatus
	Audit         AuditStatus
	KMS           KMSStatus
	Rewrap        *RewrapStatus // nil: nothing is known
}

// DatabaseStatus tells of the database.
type DatabaseStatus struct {
	ServerVersion string
	// Synchronous tells that a commit waits for a synchronous standby. Without one, acknowledged writes and evidence hold
	// only until a failover (I13).
	Synchronous      bool
	ConnectionsInUse int
	ConnectionsMax   int
}

// AuditStatus tells of the audit trail.
type AuditStatus struct {
	Ready           bool  // answers can be recorded
	Queued          int   // requests waiting for the next round
	StreamsOpen     int   // of this process
	StreamsInDoubt  int   // waiting to be resolved after an unknown outcome
	DenialsCounted  int64 // denials that were counted and not recorded one by one
	PartitionsAhead int   // days for which partitions exist, today excluded
}

// KMSStatus tells of the key keeper.
type KMSStatus struct {
	Mode  string // "local" or "aws"
	KeyID string
	// State is "ok", or the class of what the last call failed of; Since is when it came to that, zero if nothing was asked yet.
	State string
	Since time.Time
	// LastError is the class of the last failure, empty if there was none, LastErrorAt its time.
	LastError   string
	LastErrorAt time.Time
	Breaker     string // "closed", "open" or "half_open"
}
