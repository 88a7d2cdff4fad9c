package boot

import (
	"log/slog"
	"net/netip"

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

	keys
}

// Rotator is the configuration of a rotator process, understood in full. LoadRotator alone makes one.
type Rotator struct {
	*config.Rotator                // without the master key
	WebhookAllowed  []netip.Prefix // what webhooks may reach although it isn't public

	keys
}

// Offline is the configuration of an offline command, understood in full. LoadOffline alone makes one.
type Offline struct {
	*config.Offline // without the master key

	keys
}

// Release zeroes the keys and tokens that the configuration holds.
func (o *Offline) Release() {
	o.keys.Release()
	o.Offline.Release()
}

// keys is what the domain makes of the part of a configuration that says where data keys come from.
type keys struct {
	masterKey   sensitive.Bytes
	allowedKeys []kms.ARN
}

// Release zeroes the master key.
func (k *keys) Release() { k.masterKey.Release() }

func (k *keys) understand(cfg config.KMS) (problems []config.Problem) {
	k.masterKey, k.allowedKeys, problems = understandKMS(cfg)
	return problems
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
	return append(problems, a.keys.understand(cfg.KMS)...)
}

// LoadRotator is LoadAPI for a rotator process, whose configuration config.LoadRotator reads. The caller releases it, unless NewRotator gets it.
func LoadRotator(environ map[string]string) (*Rotator, error) {
	r := &Rotator{}
	cfg, err := config.LoadRotator(environ, func(cfg *config.Rotator) (problems []config.Problem) {
		var err error
		if r.WebhookAllowed, err = access.ParsePrefixes(cfg.WebhookAllowedIPs); err != nil {
			problems = append(problems, problem("VAULT_ROTATION_WEBHOOK_ALLOWED_IPS", err))
		}
		return append(problems, r.keys.understand(cfg.KMS)...)
	})
	if err != nil {
		r.Release()
		return nil, err
	}
	cfg.KMS.Release()
	r.Rotator = cfg
	return r, nil
}

// LoadOffline reads an offline command's configuration as config.LoadOffline does, and reports what the domain finds
// wrong with it together with the rest. The caller releases it.
func LoadOffline(environ map[string]string) (*Offline, error) {
	o := &Offline{}
	cfg, err := config.LoadOffline(environ, func(cfg *config.Offline) []config.Problem { return o.keys.understand(cfg.KMS) })
	if err != nil {
		o.keys.Release()
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
func warn(log *slog.Logger, cfg *config.Service) {
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
