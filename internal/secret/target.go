package secret

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// Limits of targets.
const (
	MaxTargetHosts   = 16
	MaxTargetURL     = 2048
	MaxTargetCABytes = 32 << 10
	// MaxRoleBytes is the longest name of a role or database that PostgreSQL doesn't cut.
	MaxRoleBytes = 63

	DefaultProbeSecs = 300
	MinProbeSecs     = 10
	MaxProbeSecs     = 86400
)

// The modes of a PostgresTarget.
const (
	// ModeSingle changes the password of one role: the old one stops working the moment the new one is set.
	ModeSingle = "single"
	// ModeAlternating changes the two roles in turn, so that the one that was handed out before works until it is its turn again.
	ModeAlternating = "alternating"
)

// Target is what a rotation has to change outside the vault. Exactly one field is set. Nothing in it is secret: secrets are named.
type Target struct {
	Postgres *PostgresTarget `json:"postgres,omitempty"`
	Webhook  *WebhookTarget  `json:"webhook,omitempty"`
}

// PostgresTarget is a role, or two, of a PostgreSQL cluster whose password is that of a userpass secret.
type PostgresTarget struct {
	// Hosts are 1 to 16 servers in the form of ParseHost; the primary is found among them.
	Hosts []string `json:"hosts,omitempty"`
	// Standbys are 0 to 16 more, in the same form: the new password is tested there too.
	Standbys []string `json:"standbys,omitempty"`
	// Database is where to log in, 1 to 63 bytes; "" means postgres.
	Database string `json:"database,omitempty"`
	// Mode is ModeSingle or ModeAlternating.
	Mode string `json:"mode,omitempty"`
	// Usernames are the two roles of ModeAlternating, each 1 to 63 bytes; none for ModeSingle.
	Usernames []string `json:"usernames,omitempty"`
	// LoginSecret is the name of the userpass secret whose user may set the password; "" means the role itself, in ModeSingle only.
	LoginSecret string `json:"login_secret,omitempty"`
	// CA holds the certificates that vouch for the servers, in PEM, at most 32 KiB; "" means those that the system trusts.
	CA string `json:"ca,omitempty"`
	// ProbeSecs is how often the current password is tried, 10 to 86400; 0 means 300.
	ProbeSecs int64 `json:"probe_secs,omitempty"`
}

// WebhookTarget is told of each rotation by a signed request.
type WebhookTarget struct {
	// URL is https, at most 2048 characters, without user and fragment.
	URL string `json:"url,omitempty"`
	// SigningSecret is the name of the opaque secret whose valid versions sign the request.
	SigningSecret string `json:"signing_secret,omitempty"`
	// SendValue sends the value along; otherwise the receiver fetches it, once.
	SendValue bool `json:"send_value,omitempty"`
	// CA is as PostgresTarget has it.
	CA string `json:"ca,omitempty"`
}

// Type gives "postgres" or "webhook", and "" for no target.
func (t *Target) Type() string {
	switch {
	case t == nil:
		return ""
	case t.Postgres != nil:
		return "postgres"
	case t.Webhook != nil:
		return "webhook"
	}
	return ""
}

// DatabaseOrDefault gives where to log in.
func (p *PostgresTarget) DatabaseOrDefault() string {
	if p.Database == "" {
		return "postgres"
	}
	return p.Database
}

// ProbeInterval gives how often the current password is tried.
func (p *PostgresTarget) ProbeInterval() time.Duration {
	if p.ProbeSecs == 0 {
		return DefaultProbeSecs * time.Second
	}
	return Seconds(p.ProbeSecs)
}

// Canonical gives a copy that shares nothing with t, its hosts in the form of ParseHost; one that has none stays as it is.
func (t *Target) Canonical() *Target {
	if t == nil {
		return nil
	}
	var c Target
	if t.Postgres != nil {
		p := *t.Postgres
		p.Hosts, p.Standbys, p.Usernames = hostList(p.Hosts), hostList(p.Standbys), slices.Clone(p.Usernames)
		c.Postgres = &p
	}
	if t.Webhook != nil {
		w := *t.Webhook
		c.Webhook = &w
	}
	return &c
}

// Validate checks the limits, and that the target suits a secret of that format and grace period. That the secrets which it names
// exist, are of the right format, and may be sent there, is for who can look. A nil target suits every secret. Errors are of
// kind Invalid and never repeat the input.
func (t *Target) Validate(format Format, grace time.Duration) error {
	if problem := t.problem(format, grace); problem != "" {
		return fault.New(fault.Invalid, problem)
	}
	return nil
}

func (t *Target) problem(format Format, grace time.Duration) string {
	switch {
	case t == nil:
		return ""
	case (t.Postgres == nil) == (t.Webhook == nil):
		return "target must be exactly one of postgres and webhook"
	case t.Webhook != nil:
		return t.Webhook.problem()
	case format != Userpass:
		return "a postgres target needs a userpass secret, whose password it sets: create one with username and password"
	}
	for _, problem := range []string{
		t.Postgres.modeProblem(grace), t.Postgres.hostsProblem(), t.Postgres.databaseProblem(), t.Postgres.probeProblem(),
		caProblem("target.postgres.ca", t.Postgres.CA),
	} {
		if problem != "" {
			return problem
		}
	}
	return ""
}

func (p *PostgresTarget) modeProblem(grace time.Duration) string {
	switch {
	case p.Mode == ModeSingle && grace > 0:
		return "one role has one password: the old one stops working the moment the new one is set; " +
			"set grace_period_secs to 0, or use mode alternating with two roles"
	case p.Mode == ModeSingle && len(p.Usernames) > 0:
		return "target.postgres.usernames are the two roles of mode alternating: leave them out, as the secret's own username is changed"
	case p.Mode == ModeSingle && p.LoginSecret == "":
		return ""
	case p.Mode == ModeSingle:
	case p.Mode != ModeAlternating:
		return "target.postgres.mode must be single or alternating"
	case len(p.Usernames) != 2 || p.Usernames[0] == p.Usernames[1]:
		return "target.postgres.usernames must be two different roles for mode alternating"
	case !identifier(p.Usernames[0]) || !identifier(p.Usernames[1]):
		return "target.postgres.usernames must be 1 to 63 bytes of UTF-8 text without control characters each"
	case p.LoginSecret == "":
		return "target.postgres.login_secret must name a secret whose user may set the passwords of both roles, for mode alternating"
	}
	return nameFieldProblem("target.postgres.login_secret", p.LoginSecret)
}

func (p *PostgresTarget) hostsProblem() string {
	switch {
	case len(p.Hosts) < 1 || len(p.Hosts) > MaxTargetHosts:
		return "target.postgres.hosts must be 1 to 16 hosts"
	case len(p.Standbys) > MaxTargetHosts:
		return "target.postgres.standbys must be at most 16 hosts"
	}
	for _, host := range slices.Concat(p.Hosts, p.Standbys) {
		if _, problem := parseHost(host, postgresPort); problem != "" {
			return "target.postgres.hosts and standbys: " + hostRule + problem
		}
	}
	all := hostList(slices.Concat(p.Hosts, p.Standbys))
	if slices.Sort(all); len(slices.Compact(all)) != len(p.Hosts)+len(p.Standbys) {
		return "target.postgres.hosts and standbys must list each host once: leave out the second, and 5432, which is every host's port if it has none"
	}
	return ""
}

func (p *PostgresTarget) databaseProblem() string {
	if p.Database != "" && !identifier(p.Database) {
		return "target.postgres.database must be 1 to 63 bytes of UTF-8 text without control characters, or left out for postgres"
	}
	return ""
}

func (p *PostgresTarget) probeProblem() string {
	if p.ProbeSecs != 0 && (p.ProbeSecs < MinProbeSecs || p.ProbeSecs > MaxProbeSecs) {
		return "target.postgres.probe_secs must be 10 to 86400, or 0 for 300"
	}
	return ""
}

// identifier tells whether s can be the name of a role or database, and a role the username of a userpass secret.
func identifier(s string) bool {
	return len(s) >= 1 && len(s) <= MaxRoleBytes && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func nameFieldProblem(field, name string) string {
	if problem := nameProblem(name); problem != "" {
		return field + ": " + nameRule + problem
	}
	return ""
}
