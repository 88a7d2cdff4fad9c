package config

import "slices"

//go:generate go run ./gendocs ../../docs/configuration.md

// Variable is what an operator needs to know of one variable.
type Variable struct {
	Name    string
	Type    string // what may be written, in words
	Default string // empty means none
	// Otherwise has the defaults of those programs that have others, by program.
	Otherwise map[string]string
	Meaning   string // one or two sentences
	// Programs names those that read it: "api" is the API server, "rotator" the rotator, "sealkeep" the offline commands of the CLI.
	Programs []string
	// Secret tells that it holds a secret, is never shown, and may be given as a file by appending _FILE to its name.
	Secret bool

	least, most int64 // the bounds of a whole number
	exact       bool  // a file's content is taken as it is, its last line ending included
}

// Bounds gives the least and the most that a variable may be, if it is a whole number.
func (v Variable) Bounds() (least, most int64, bounded bool) { return v.least, v.most, v.most > 0 }

// DefaultOf gives a program's default; empty means none.
func (v Variable) DefaultOf(program string) string {
	if other, ok := v.Otherwise[program]; ok {
		return other
	}
	return v.Default
}

// The programs, as Variable.Programs names them.
const (
	programAPI     = "api"
	programRotator = "rotator"
	programCLI     = "sealkeep"
)

var (
	api      = []string{programAPI}
	rotator  = []string{programRotator}
	cli      = []string{programCLI}
	services = []string{programAPI, programRotator}
	all      = []string{programAPI, programRotator, programCLI}
)

// variables is all that this release reads, by subject, in the order of the manual. Nothing is declared that no program
// reads.
var variables = []Variable{
	{
		Name: "VAULT_API_LISTEN", Type: "host:port", Default: "0.0.0.0:8200", Programs: api,
		Meaning: "Where the API listens. An empty host is every address; port 0 is one that the system chooses.",
	},
	{
		Name: "VAULT_TELEMETRY_LISTEN", Type: "host:port", Default: "127.0.0.1:9200", Programs: services,
		Otherwise: map[string]string{programRotator: "127.0.0.1:9201"},
		Meaning:   "Where `/livez`, `/readyz` and `/metrics` are served. They need no authentication, so keep this listener off public networks.",
	},
	{
		Name: "VAULT_ALLOWED_IPS", Type: "IPv4 addresses and CIDR prefixes, separated by commas or spaces", Programs: api,
		Meaning: "The client addresses that may read values. Empty denies every read.",
	},
	{
		Name: "VAULT_ALLOW_IPV6", Type: "true or false", Default: "false", Programs: api,
		Meaning: "Whether the lists of addresses may hold IPv6 entries. Without it IPv6 clients are denied.",
	},
	{
		Name: "VAULT_TRUST_PROXY", Type: "true or false", Default: "false", Programs: api,
		Meaning: "Whether a peer listed in `VAULT_TRUSTED_PROXIES` may name the client in `X-Forwarded-For`.",
	},
	{
		Name: "VAULT_TRUSTED_PROXIES", Type: "addresses and CIDR prefixes, separated by commas or spaces", Programs: api,
		Meaning: "The proxies in front of the API. The client is the right-most address in `X-Forwarded-For` that is none of them.",
	},
	{
		Name: "VAULT_READ_AUTH", Type: "`ip` or `ip+token`", Default: "ip", Programs: api,
		Meaning: "What a read needs: an allowed address, or also a token whose role may read that name. In clusters, where workloads share addresses, use `ip+token`.",
	},
	{
		Name: "VAULT_DATABASE_URL", Type: "`postgres://user:password@host:port,host:port/database?sslmode=…`", Programs: all, Secret: true,
		Meaning: "How to reach PostgreSQL; name all hosts of a cluster, and the primary is found. Either this or `VAULT_PG_HOSTS` and its companions.",
	},
	{
		Name: "VAULT_PG_HOSTS", Type: "host names, addresses or socket folders, separated by commas", Programs: all,
		Meaning: "All hosts of the PostgreSQL cluster; the primary is found.",
	},
	{
		Name: "VAULT_PG_PORT", Type: "whole number", Default: "5432", Programs: all, least: 1, most: 65535,
		Meaning: "The port, the same on every host.",
	},
	{
		Name: "VAULT_PG_USER", Type: "text", Programs: all,
		Meaning: "The login role. Needed with `VAULT_PG_HOSTS`.",
	},
	{
		Name: "VAULT_PG_PASSWORD", Type: "text", Programs: all, Secret: true,
		Meaning: "Its password, if it needs one.",
	},
	{
		Name: "VAULT_PG_DBNAME", Type: "text", Programs: all,
		Meaning: "The database. Needed with `VAULT_PG_HOSTS`.",
	},
	{
		Name: "VAULT_PG_SSLMODE", Type: "`verify-full`, `verify-ca`, `require`, `prefer`, `allow` or `disable`", Programs: all,
		Meaning: "How the connection is protected. When it isn't given, here or in the URL, it is `verify-full`, but `prefer` if every host is a loopback address or a socket. " +
			"Anything weaker than `verify-full` towards another host is logged. The certificate authority is that of `sslrootcert` in the URL or of `PGSSLROOTCERT`, else the system's.",
	},
	{
		Name: "VAULT_PG_MAX_CONNS", Type: "whole number", Default: "16", Programs: all, least: 2, most: 1000,
		Meaning: "How many pooled connections a process may hold. A few dedicated ones for the audit trail come on top.",
	},
	{
		Name: "VAULT_KMS_MODE", Type: "`aws` or `local`", Default: "aws", Programs: all,
		Meaning: "Where data keys come from: AWS KMS, configured further by the standard `AWS_` variables, or a master key that lies on this host, which is for development. See [kms.md](kms.md).",
	},
	{
		Name: "VAULT_KMS_KEY_ID", Type: "a key's ARN or id, or an alias's ARN or `alias/NAME`", Programs: all,
		Meaning: "The key of AWS KMS that new data keys are wrapped under. Needed with `VAULT_KMS_MODE=aws`.",
	},
	{
		Name: "VAULT_KMS_ALLOWED_KEY_IDS", Type: "ARNs of keys, separated by commas or spaces", Programs: all,
		Meaning: "Other keys of AWS KMS that what is stored may be wrapped under, such as the one that an alias named before. " +
			"A key that is neither one of these nor `VAULT_KMS_KEY_ID` is never used, whatever a row says.",
	},
	{
		Name: "VAULT_KMS_MAX_RETRIES", Type: "whole number", Default: "5", Programs: all, least: 0, most: 20,
		Meaning: "How many more attempts a call to AWS KMS makes, within 8 s in all, while KMS throttles or doesn't answer.",
	},
	{
		Name: "VAULT_KMS_RECOVERY_KEY_ID", Type: "a key's ARN", Programs: all,
		Meaning: "Another key of AWS KMS, of another Region or account, that every data key and integrity key is wrapped under as well, in case the first one is lost. See [kms.md](kms.md#a-recovery-key).",
	},
	{
		Name: "VAULT_KMS_USE_RECOVERY", Type: "true or false", Default: "false", Programs: all,
		Meaning: "Whether what is stored is opened by the recovery key, and by it alone. For when the first key is lost or out of reach.",
	},
	{
		Name: "VAULT_LOCAL_MASTER_KEY", Type: "32 bytes as 64 hexadecimal digits or base64; a file may hold them raw", Programs: all, Secret: true, exact: true,
		Meaning: "The master key of `VAULT_KMS_MODE=local`. Whoever has it and the database has every secret; without it nothing opens.",
	},
	{
		Name: "VAULT_DEK_CACHE_TTL_SECS", Type: "whole number, in seconds", Default: "300", Programs: services, least: 0, most: 86400,
		Meaning: "How long an unwrapped data key is kept in memory, and so how long reads of what was read before go on without the KMS. 0 keeps none, and every read asks the KMS.",
	},
	{
		Name: "VAULT_BOOTSTRAP_TOKEN", Type: "a token: `svk_…`", Programs: cli, Secret: true,
		Meaning: "The first admin token, for `sealkeep init` alone, which otherwise makes one and prints it once.",
	},
	{
		Name: "VAULT_AUDIT_TIMEOUT_MS", Type: "whole number, in milliseconds", Default: "2000", Programs: services, least: 100, most: 8000,
		Meaning: "How long a request, or a step of a rotation, waits until its audit record is committed, before it is answered with 503, or tried again. " +
			"The bound keeps it below the 10 s after which a connection to the database that says nothing is given up.",
	},
	{
		Name: "VAULT_SEALED_CACHE_MIB", Type: "whole number, in MiB", Default: "16", Programs: api, least: 0, most: 4096,
		Meaning: "About how much memory, in each process, the sealed rows may take that are kept for reads: ciphertext and wrapped keys; " +
			"a small secret takes about 1 KiB. A row that was changed is never answered from it. 0 keeps none, and every read looks its rows up.",
	},
	{
		Name: "VAULT_ROTATION_POLL_SECS", Type: "whole number, in seconds", Default: "15", Programs: rotator, least: 1, most: 3600,
		Meaning: "How long a rotator sleeps at most before it looks for work. It wakes by itself when something falls due, and when it is told that there is work.",
	},
	{
		Name: "VAULT_ROTATION_WORKERS", Type: "whole number", Default: "8", Programs: rotator, least: 1, most: 256,
		Meaning: "How many rotations a rotator makes at once. While they speak to the database they share the connections of `VAULT_PG_MAX_CONNS`.",
	},
	{
		Name: "VAULT_ROTATION_LEASE_SECS", Type: "whole number, in seconds", Default: "30", Programs: rotator, least: 3, most: 600,
		Meaning: "How long a rotator's claim on a job holds unless it is renewed, which it is after a third of that. " +
			"So long may a job wait whose rotator has died.",
	},
	{
		Name: "VAULT_ROTATION_MAX_PER_MIN", Type: "whole number", Default: "0", Programs: rotator, least: 0, most: 1000000,
		Meaning: "How many rotations all rotators together begin within a minute. 0 sets no bound.",
	},
	{
		Name: "VAULT_ROTATION_MAX_ATTEMPTS", Type: "whole number", Default: "10", Programs: rotator, least: 1, most: 100,
		Meaning: "After how many failed attempts a rotation isn't tried again by itself. What fails because the database or the KMS is away doesn't count.",
	},
	{
		Name: "VAULT_ROTATION_WEBHOOK_ALLOWED_IPS", Type: "addresses and CIDR prefixes, IPv6 ones too, separated by commas or spaces", Programs: rotator,
		Meaning: "The addresses that webhooks may reach although they are private ones. Empty allows none: webhooks reach public addresses alone.",
	},
	{
		Name: "VAULT_PUBLIC_URL", Type: "`https://HOST`, with a port and a path if need be", Programs: rotator,
		Meaning: "Where the receivers of webhooks reach the API. Needed only by webhooks whose receivers fetch the value. `http://` is for a loopback address alone.",
	},
	{
		Name: "VAULT_KMS_REWRAP_MAX_PER_SEC", Type: "whole number", Default: "20", Programs: rotator, least: 1, most: 10000,
		Meaning: "How many data keys a rotator wraps anew in a second at most, so that re-wrapping leaves the KMS to those who read.",
	},
	{
		Name: "VAULT_DRAIN_SECS", Type: "whole number, in seconds", Default: "20", Programs: services, least: 1, most: 600,
		Meaning: "How long a process that was told to stop may take to finish what is in flight.",
	},
	{
		Name: "VAULT_LOG_LEVEL", Type: "`debug`, `info`, `warn` or `error`", Default: "info", Programs: services,
		Meaning: "The least severe log line that is written.",
	},
}

// Variables lists every variable that this release reads. The caller may keep and change the list.
func Variables() []Variable { return slices.Clone(variables) }

// lookup finds a variable by its name.
func lookup(name string) (Variable, bool) {
	i := slices.IndexFunc(variables, func(v Variable) bool { return v.Name == name })
	if i < 0 {
		return Variable{}, false
	}
	return variables[i], true
}

// elsewhere names what belongs to clients or to other programs of the same deployment: in a shared environment file it
// is no misspelling. What an operator would expect the API to obey (VAULT_TLS_…, VAULT_ALLOWED_IPS_FILE) is not here:
// silence would look like consent.
var elsewhere = []string{
	"VAULT_ADDR", "VAULT_TOKEN", "VAULT_TOKEN_FILE",
	"VAULT_AUTH_MAX_FAILURES", "VAULT_AUTH_LOCKOUT_SECS", "VAULT_AUTH_WINDOW_SECS",
	"VAULT_AUDIT_SINKS",
}
