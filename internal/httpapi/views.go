package httpapi

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// The shapes of answers that hold no plaintext. Every field is always there, null where there is nothing to say, unless
// docs/openapi.yaml says otherwise.

type itemsView[T any] struct {
	Items []T `json:"items"`
}

type pageView struct {
	Items      []metadataView `json:"items"`
	NextCursor *string        `json:"next_cursor"`
}

type metadataView struct {
	Name                 string            `json:"name"`
	Kind                 string            `json:"kind"`
	Format               string            `json:"format"`
	Description          string            `json:"description"`
	RotationIntervalSecs *int64            `json:"rotation_interval_secs"`
	RotationSchedule     *scheduleView     `json:"rotation_schedule"`
	Paused               bool              `json:"paused"`
	PasswordPolicy       *policyView       `json:"password_policy"`
	LoginHosts           []string          `json:"login_hosts"`
	Target               any               `json:"target"`
	GracePeriodSecs      int64             `json:"grace_period_secs"`
	Version              int64             `json:"version"`
	NextRotationAt       *string           `json:"next_rotation_at"`
	CustomMetadata       map[string]string `json:"custom_metadata"`
	CreatedAt            string            `json:"created_at"`
	UpdatedAt            string            `json:"updated_at"`
}

func viewMetadata(m vault.Metadata) metadataView {
	return metadataView{
		Name:                 m.Name,
		Kind:                 string(m.Kind),
		Format:               string(m.Format),
		Description:          m.Description,
		RotationIntervalSecs: m.RotationIntervalSecs,
		RotationSchedule:     viewSchedule(m.Rotation.Schedule),
		Paused:               m.Rotation.Paused,
		PasswordPolicy:       viewPolicy(m.Rotation.Policy),
		LoginHosts:           m.Rotation.LoginHosts,
		Target:               viewTarget(m.Target),
		GracePeriodSecs:      m.GracePeriodSecs,
		Version:              m.Version,
		NextRotationAt:       optionalTime(m.NextRotationAt),
		CustomMetadata:       m.CustomMetadata,
		CreatedAt:            timestamp(m.CreatedAt),
		UpdatedAt:            timestamp(m.UpdatedAt),
	}
}

type versionsView struct {
	Name  string        `json:"name"`
	Items []versionView `json:"items"`
}

type versionView struct {
	Version   int64   `json:"version"`
	State     string  `json:"state"`
	Valid     bool    `json:"valid"`
	CreatedAt string  `json:"created_at"`
	ExpiresAt *string `json:"expires_at,omitzero"`
}

func viewVersion(v vault.VersionMetadata) versionView {
	return versionView{
		Version: v.Version, State: string(v.State), Valid: v.Valid,
		CreatedAt: timestamp(v.CreatedAt), ExpiresAt: optionalTime(v.ExpiresAt),
	}
}

type roleView struct {
	Name        string           `json:"name"`
	Description string           `json:"description"`
	IsAdmin     bool             `json:"is_admin"`
	Permissions []permissionView `json:"permissions"`
	CreatedAt   string           `json:"created_at"`
}

type permissionView struct {
	Action string `json:"action"`
	Path   string `json:"path"`
}

func viewRole(r vault.Role) roleView {
	v := roleView{Name: r.Name, Description: r.Description, IsAdmin: r.IsAdmin, CreatedAt: timestamp(r.CreatedAt)}
	for _, p := range r.Permissions {
		v.Permissions = append(v.Permissions, permissionView{Action: string(p.Action), Path: string(p.Path)})
	}
	return v
}

// issuedTokenView is a new token but for the token itself.
type issuedTokenView struct {
	Name      string  `json:"name"`
	Role      string  `json:"role"`
	CreatedAt string  `json:"created_at"`
	ExpiresAt *string `json:"expires_at"`
}

type tokenView struct {
	Name       string  `json:"name"`
	Role       string  `json:"role"`
	CreatedAt  string  `json:"created_at"`
	ExpiresAt  *string `json:"expires_at"`
	RevokedAt  *string `json:"revoked_at"`
	LastUsedAt *string `json:"last_used_at"`
}

func viewToken(t vault.Token) tokenView {
	return tokenView{
		Name: t.Name, Role: t.Role, CreatedAt: timestamp(t.CreatedAt), ExpiresAt: optionalTime(t.ExpiresAt),
		RevokedAt: optionalTime(t.RevokedAt), LastUsedAt: optionalTime(t.LastUsedAt),
	}
}

type eventView struct {
	StreamID   string         `json:"stream_id"`
	Seq        int64          `json:"seq"`
	At         string         `json:"at"`
	Actor      string         `json:"actor"`
	ClientIP   *string        `json:"client_ip"`
	Action     string         `json:"action"`
	SecretName *string        `json:"secret_name"`
	Version    *int64         `json:"version"`
	Outcome    string         `json:"outcome"`
	RequestID  *string        `json:"request_id"`
	TraceID    *string        `json:"trace_id"`
	Detail     jsontext.Value `json:"detail"`
}

func viewEvent(e vault.Event) eventView {
	return eventView{
		StreamID: e.StreamID.String(), Seq: e.Seq, At: timestamp(e.At), Actor: e.Actor, ClientIP: orNil(e.ClientIP),
		Action: e.Action, SecretName: orNil(e.SecretName), Version: orNil(e.Version), Outcome: e.Outcome,
		RequestID: orNil(e.RequestID), TraceID: orNil(e.TraceID), Detail: viewDetail(e.Detail),
	}
}

// viewDetail gives the detail of an event as the JSON that it is. Should it be none, it is shown as text.
func viewDetail(detail string) jsontext.Value {
	if detail == "" {
		return nil // null
	}
	if v := jsontext.Value(detail); v.IsValid() {
		return v
	}
	quoted, _ := jsontext.AppendQuote(nil, detail) // what isn't UTF-8 becomes U+FFFD
	return quoted
}

func orNil[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

type statusView struct {
	Version       string         `json:"version"`
	VaultID       string         `json:"vault_id"`
	ReadAuth      string         `json:"read_auth"`
	SchemaVersion int64          `json:"schema_version"`
	Secrets       int64          `json:"secrets"`
	Versions      int64          `json:"versions"`
	Overdue       int64          `json:"overdue"`
	Rotation      rotationView   `json:"rotation"`
	Database      databaseView   `json:"database"`
	Audit         auditView      `json:"audit"`
	KMS           keyManagerView `json:"kms"`
	Rewrap        *rewrapView    `json:"rewrap"`
}

type databaseView struct {
	ServerVersion    string `json:"server_version"`
	Synchronous      bool   `json:"synchronous"`
	ConnectionsInUse int    `json:"connections_in_use"`
	ConnectionsMax   int    `json:"connections_max"`
}

type auditView struct {
	Ready           bool  `json:"ready"`
	Queued          int   `json:"queued"`
	StreamsOpen     int   `json:"streams_open"`
	StreamsInDoubt  int   `json:"streams_in_doubt"`
	DenialsCounted  int64 `json:"denials_counted"`
	PartitionsAhead int   `json:"partitions_ahead"`
}

type keyManagerView struct {
	Mode        string  `json:"mode"`
	KeyID       string  `json:"key_id"`
	State       string  `json:"state"`
	Since       *string `json:"since"`
	LastError   *string `json:"last_error"`
	LastErrorAt *string `json:"last_error_at"`
	Breaker     string  `json:"breaker"`
}

type rewrapView struct {
	State       string  `json:"state"`
	RequestedAt *string `json:"requested_at"`
	StartedAt   *string `json:"started_at"`
	FinishedAt  *string `json:"finished_at"`
	Found       int64   `json:"found"`
	Done        int64   `json:"done"`
	Failed      int64   `json:"failed"`
	Remaining   int64   `json:"remaining"`
	LastError   *string `json:"last_error"`
	Note        *string `json:"note"`
}

func viewRewrap(s *vault.RewrapStatus) *rewrapView {
	if s == nil {
		return nil
	}
	return &rewrapView{
		State: s.State, RequestedAt: optionalTime(s.RequestedAt), StartedAt: optionalTime(s.StartedAt), FinishedAt: optionalTime(s.FinishedAt),
		Found: s.Found, Done: s.Done, Failed: s.Failed, Remaining: s.Remaining, LastError: orNil(s.LastError), Note: orNil(s.Note),
	}
}

func viewStatus(version string, s *vault.Status) statusView {
	return statusView{
		Version: version, VaultID: s.VaultID.String(), ReadAuth: s.ReadAuth, SchemaVersion: s.SchemaVersion,
		Secrets: s.Secrets, Versions: s.Versions, Overdue: s.Overdue, Rotation: viewRotation(s.Rotation),
		Database: databaseView(s.Database), Audit: auditView(s.Audit), KMS: keyManagerView{
			Mode: s.KMS.Mode, KeyID: s.KMS.KeyID, State: s.KMS.State, Since: optionalTime(orNil(s.KMS.Since)), LastError: orNil(s.KMS.LastError),
			LastErrorAt: optionalTime(orNil(s.KMS.LastErrorAt)), Breaker: s.KMS.Breaker,
		},
		Rewrap: viewRewrap(s.Rewrap),
	}
}

// views turns what a use case gave into what is shown, in order. The result is not nil.
func views[T, V any](items []T, view func(T) V) []V {
	out := make([]V, 0, len(items))
	for _, item := range items {
		out = append(out, view(item))
	}
	return out
}

// marshal gives a view as JSON, maps in the order of their keys. Slices and maps that are nil are empty.
func marshal(view any) ([]byte, error) {
	body, err := json.Marshal(view, json.Deterministic(true))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "")
	}
	return body, nil
}
