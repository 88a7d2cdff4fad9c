package boot

import (
	"log/slog"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// API is the configuration of an API process, understood in full. LoadAPI alone makes one.
type API struct {
	*config.API   // without the master key
	Allowlist     access.Allowlist
	AddressPolicy access.AddressPolicy

	masterKey   sensitive.Bytes
	allowedKeys []kms.ARN
}

// Release zeroes the master key.
func (a *API) Release() { a.masterKey.Release() }

// Offline is the configuration of an offline command, understood in full. LoadOffline alone makes one.
type Offline struct {
	*config.Offline // without the master key

	masterKey   sensitive.Bytes
	allowedKeys []kms.ARN
}

// Release zeroes the keys and tokens that the configuration holds.
func (o *Offline) Release() {
	o.masterKey.Release()
	o.Offline.Release()
}

// LoadAPI reads an API process's configuration as config.LoadAPI does, and reports what the domain finds wrong with it
// together with the rest. The caller releases it, unless NewAPI gets it.
func LoadAPI(environ map[string]string) (*API, error) {
	a := &API{}
	cfg, err := config.LoadAPI(environ, a.understand)
	if err != nil {
		a.Release()
		return nil, err
	}
	cfg.KMS.Release()
	a.API = cfg
	return a, nil
}

// understand takes from a configuration what the domain makes of it, and tells what is wrong with it.
func (a *API) understand(cfg *config.API) (problems []config.Problem) {
	var err error
	if a.Allowlist, err = access.ParseAllowlist(cfg.AllowedIPs, cfg.AllowIPv6); err != nil {
		problems = append(problems, problem("VAULT_ALLOWED_IPS", err))
	}
	if a.AddressPolicy, err = access.NewAddressPolicy(cfg.TrustProxy, cfg.TrustedProxies, cfg.AllowIPv6); err != nil {
		problems = append(problems, problem("VAULT_TRUSTED_PROXIES", err))
	}
	var more []config.Problem
	a.masterKey, a.allowedKeys, more = understandKMS(cfg.KMS)
	return append(problems, more...)
}

// LoadOffline reads an offline command's configuration as config.LoadOffline does, and reports what the domain finds
// wrong with it together with the rest. The caller releases it.
func LoadOffline(environ map[string]string) (*Offline, error) {
	o := &Offline{}
	cfg, err := config.LoadOffline(environ, func(cfg *config.Offline) (problems []config.Problem) {
		o.masterKey, o.allowedKeys, problems = understandKMS(cfg.KMS)
		return problems
	})
	if err != nil {
		o.masterKey.Release()
		return nil, err
	}
	cfg.KMS.Release()
	o.Offline = cfg
	return o, nil
}

// problem makes a problem of what a package of the domain says, whose public message is made to be shown.
func problem(variable string, err error) config.Problem {
	return config.Problem{Variable: variable, Message: fault.Message(err)}
}

// warn logs what an operator may have meant and most often didn't.
func warn(log *slog.Logger, cfg *API) {
	if cfg.Allowlist.IsEmpty() {
		log.Warn("VAULT_ALLOWED_IPS is empty: every read is denied")
	}
	warnDatabase(log, cfg.Database)
	warnKMS(log, cfg.KMS)
	if len(cfg.Unrecognised) > 0 {
		log.Warn("these variables are set and no program of this release reads them; are they misspelt?", "variables", cfg.Unrecognised)
	}
}

func warnDatabase(log *slog.Logger, d config.Database) {
	if d.IsWeak() {
		log.Warn("the connection to the database is not fully verified, as asked for by sslmode", "database", d)
	}
}

func warnKMS(log *slog.Logger, k config.KMS) {
	if k.Mode == "local" {
		log.Warn("VAULT_KMS_MODE=local is for development: the master key lies on this host")
	}
}
