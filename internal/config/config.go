// Package config reads a process's configuration from its environment into typed values, and knows what every variable
// means.
//
// A configuration is judged as a whole: [LoadAPI], [LoadRotator] and their like report everything that is wrong with it at once, as an
// [Error] that names each variable and says what to write there. What belongs to the domain (whether an allowlist
// parses) is judged by the [Check] functions that the caller hands in, and reported together with the rest.
//
// An empty variable counts as unset. A variable that holds a secret can be given as a file instead, by appending _FILE
// to its name.
//
// Invariants:
//   - I1: no error and no log line holds the value of any variable that may hold a secret, nor that of a _FILE variable,
//     in which a secret is easily pasted by mistake. LogValue methods list what they show; what is added to a
//     configuration later stays hidden until it is listed.
//   - I4: a value that isn't understood is an error; nothing falls back to a default but what is absent. The connection
//     to a database that isn't on this host is verified in full unless a weaker mode is asked for by name.
package config

import (
	"log/slog"
	"time"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Service is the part of the configuration that every process has that serves until it is told to stop.
type Service struct {
	// TelemetryListen is host:port; an empty host means every address, port 0 one that the system chooses.
	TelemetryListen string
	Database        Database
	KMS             KMS
	AuditTimeout    time.Duration // how long what is done waits for its evidence
	DEKCacheTTL     time.Duration // how long unwrapped data keys are kept; 0 keeps none
	Drain           time.Duration // how long a process that was told to stop may take
	LogLevel        slog.Level
	// Unrecognised names the VAULT_* variables that are set and that no program of this release knows, sorted: most
	// often a misspelling.
	Unrecognised []string
}

// API is the configuration of an API process.
type API struct {
	Service
	Listen string // host:port, as TelemetryListen
	// AllowedIPs and TrustedProxies are lists as they were written; the caller parses them (see Check).
	AllowedIPs, TrustedProxies string
	TrustProxy, AllowIPv6      bool
	ReadAuth                   string // "ip" or "ip+token"
	SealedCacheBytes           uint64 // bounds the sealed rows that are kept in memory; 0 keeps none
}

// Offline is the configuration of commands that work without an API, with the database and the key keeper in hand.
type Offline struct {
	Database Database
	KMS      KMS
	// BootstrapToken is the first admin token as the operator chose it; zero when one is to be generated. The receiver
	// releases it.
	BootstrapToken sensitive.Bytes
	Unrecognised   []string // as in Service
}

// Release zeroes the keys and tokens that the configuration holds.
func (o *Offline) Release() {
	o.KMS.Release()
	o.BootstrapToken.Release()
}

// KMS says where data keys come from.
type KMS struct {
	Mode string // "aws" or "local"
	// KeyID names the key of AWS KMS, AllowedKeyIDs others as they were written; the caller parses them (see Check).
	KeyID, AllowedKeyIDs string
	MaxRetries           int // how many more attempts a call makes
	// RecoveryKeyID is the ARN of the key that wraps everything a second time, empty for none; the caller parses it.
	RecoveryKeyID string
	UseRecovery   bool // what is stored is opened by that key alone
	// Region and Endpoint are those of the standard AWS variables, empty where those aren't set.
	Region, Endpoint string
	// MasterKey is the local master key as it was written, a text or 32 raw bytes; the caller parses it (see Check).
	MasterKey sensitive.Bytes
	// MasterKeyVariable is the variable that gave it, VAULT_LOCAL_MASTER_KEY or VAULT_LOCAL_MASTER_KEY_FILE: who reports a bad one names it.
	MasterKeyVariable string
}

// Release zeroes the master key.
func (k KMS) Release() { k.MasterKey.Release() }

// Check judges what config can't: it is shown the configuration as far as that was understood, and returns what is
// wrong with it.
type Check[C any] func(*C) []Problem

// LoadAPI reads an API process's configuration from environ and applies the checks. Its error is an *Error that lists
// every problem.
func LoadAPI(environ map[string]string, checks ...Check[API]) (*API, error) {
	s := read(environ, programAPI)
	var v struct {
		Listen         address  `env:"VAULT_API_LISTEN"`
		AllowedIPs     string   `env:"VAULT_ALLOWED_IPS"`
		TrustProxy     flag     `env:"VAULT_TRUST_PROXY"`
		TrustedProxies string   `env:"VAULT_TRUSTED_PROXIES"`
		AllowIPv6      flag     `env:"VAULT_ALLOW_IPV6"`
		ReadAuth       readAuth `env:"VAULT_READ_AUTH"`
		SealedCacheMiB int64    `env:"VAULT_SEALED_CACHE_MIB"`
	}
	s.parse(&v)

	cfg := &API{
		Service: s.service(), Listen: string(v.Listen),
		AllowedIPs: v.AllowedIPs, TrustedProxies: v.TrustedProxies,
		TrustProxy: bool(v.TrustProxy), AllowIPv6: bool(v.AllowIPv6),
		ReadAuth:         string(v.ReadAuth),
		SealedCacheBytes: uint64(v.SealedCacheMiB) << 20, //nolint:gosec // at most 4096
	}
	if cfg.Listen == cfg.TelemetryListen && cfg.Listen != "" && !takesAnyPort(cfg.Listen) {
		s.problem("VAULT_TELEMETRY_LISTEN", "choose another address or port than that of VAULT_API_LISTEN")
	}
	if err := judge(s, cfg, checks); err != nil {
		cfg.KMS.Release()
		return nil, err
	}
	return cfg, nil
}

// service reads what every process reads that serves.
func (s *source) service() Service {
	var v struct {
		TelemetryListen address `env:"VAULT_TELEMETRY_LISTEN"`
		AuditTimeoutMS  int64   `env:"VAULT_AUDIT_TIMEOUT_MS"`
		DEKCacheTTLSecs int64   `env:"VAULT_DEK_CACHE_TTL_SECS"`
		DrainSecs       int64   `env:"VAULT_DRAIN_SECS"`
		LogLevel        level   `env:"VAULT_LOG_LEVEL"`
	}
	s.parse(&v)
	return Service{
		TelemetryListen: string(v.TelemetryListen), Database: s.database(), KMS: s.kms(),
		AuditTimeout: time.Duration(v.AuditTimeoutMS) * time.Millisecond,
		DEKCacheTTL:  seconds(v.DEKCacheTTLSecs),
		Drain:        seconds(v.DrainSecs),
		LogLevel:     slog.Level(v.LogLevel), Unrecognised: s.unrecognised(),
	}
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// judge applies the checks to what was read, and gives everything that is wrong.
func judge[C any](s *source, cfg *C, checks []Check[C]) error {
	for _, check := range checks {
		s.problems = append(s.problems, check(cfg)...)
	}
	return s.err()
}

// LoadOffline reads the configuration of an offline command from environ and applies the checks. Its error is an *Error
// that lists every problem.
func LoadOffline(environ map[string]string, checks ...Check[Offline]) (*Offline, error) {
	s := read(environ, programCLI)
	cfg := &Offline{
		Database: s.database(), KMS: s.kms(),
		BootstrapToken: s.secret("VAULT_BOOTSTRAP_TOKEN"), Unrecognised: s.unrecognised(),
	}
	if err := judge(s, cfg, checks); err != nil {
		cfg.Release()
		return nil, err
	}
	return cfg, nil
}

// LoadDatabase reads from environ only how to reach the database, which is all that migrations need. Its error is an
// *Error that lists every problem.
func LoadDatabase(environ map[string]string) (*Database, error) {
	s := read(environ, programCLI)
	d := s.database()
	if err := s.err(); err != nil {
		return nil, err
	}
	return &d, nil
}

// LoadToken reads the token of a client of the API, as it was written, from VAULT_TOKEN or from the file that
// VAULT_TOKEN_FILE names; zero if neither is set. The receiver releases it. Its error is an *Error.
func LoadToken(environ map[string]string) (sensitive.Bytes, error) {
	s := read(environ, programCLI)
	token := s.secretOf(Variable{Name: "VAULT_TOKEN", Secret: true})
	return token, s.err()
}

// LogValue shows what is safe and useful to see in a log.
func (c *API) LogValue() slog.Value {
	return slog.GroupValue(append([]slog.Attr{
		slog.String("listen", c.Listen),
		slog.String("allowed_ips", c.AllowedIPs),
		slog.Bool("trust_proxy", c.TrustProxy),
		slog.String("trusted_proxies", c.TrustedProxies),
		slog.Bool("allow_ipv6", c.AllowIPv6),
		slog.String("read_auth", c.ReadAuth),
		slog.Uint64("sealed_cache_bytes", c.SealedCacheBytes),
	}, c.attributes()...)...)
}

// attributes are what a service's LogValue shows of this part.
func (c *Service) attributes() []slog.Attr {
	return []slog.Attr{
		slog.String("telemetry_listen", c.TelemetryListen),
		slog.Any("database", c.Database),
		slog.Any("kms", c.KMS),
		slog.String("audit_timeout", c.AuditTimeout.String()),
		slog.String("dek_cache_ttl", c.DEKCacheTTL.String()),
		slog.String("drain", c.Drain.String()),
		slog.String("log_level", c.LogLevel.String()),
	}
}

// LogValue shows what is safe and useful to see in a log.
func (o *Offline) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("database", o.Database), slog.Any("kms", o.KMS))
}

// LogValue shows what is safe and useful to see in a log.
func (k KMS) LogValue() slog.Value {
	if k.Mode != "aws" {
		return slog.GroupValue(slog.String("mode", k.Mode))
	}
	return slog.GroupValue(
		slog.String("mode", k.Mode), slog.String("key_id", k.KeyID), slog.String("allowed_key_ids", k.AllowedKeyIDs),
		slog.Int("max_retries", k.MaxRetries), slog.String("region", k.Region),
		slog.String("recovery_key_id", k.RecoveryKeyID), slog.Bool("use_recovery", k.UseRecovery),
	)
}
