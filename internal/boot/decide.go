package boot

import (
	"log/slog"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// LoadAPI reads an API process's configuration as config.LoadAPI does, and reports what the domain finds wrong with it
// together with the rest.
func LoadAPI(environ map[string]string) (*config.API, error) {
	return config.LoadAPI(environ, func(cfg *config.API) []config.Problem {
		_, problems := decide(cfg)
		return append(problems, checkKMS(cfg.KMS)...)
	})
}

// LoadOffline reads an offline command's configuration as config.LoadOffline does, and reports what the domain finds
// wrong with it together with the rest.
func LoadOffline(environ map[string]string) (*config.Offline, error) {
	return config.LoadOffline(environ, func(cfg *config.Offline) []config.Problem {
		problems := checkKMS(cfg.KMS)
		if cfg.BootstrapToken.IsZero() {
			return problems
		}
		if _, err := access.ParseToken(cfg.BootstrapToken.Reveal()); err != nil {
			problems = append(problems, config.Problem{
				Variable: "VAULT_BOOTSTRAP_TOKEN", Message: "isn't a Sealkeep token: leave it unset to have one made",
			})
		}
		return problems
	})
}

// decisions are what a configuration says about access, understood.
type decisions struct {
	allowlist access.Allowlist
	addresses access.AddressPolicy
	readAuth  vault.ReadAuth
}

// decide understands what a configuration says about access, or tells what is wrong with it.
func decide(cfg *config.API) (d decisions, problems []config.Problem) {
	var err error
	if d.allowlist, err = access.ParseAllowlist(cfg.AllowedIPs, cfg.AllowIPv6); err != nil {
		problems = append(problems, problem("VAULT_ALLOWED_IPS", err))
	}
	if d.addresses, err = access.NewAddressPolicy(cfg.TrustProxy, cfg.TrustedProxies, cfg.AllowIPv6); err != nil {
		problems = append(problems, problem("VAULT_TRUSTED_PROXIES", err))
	}
	if d.readAuth, err = vault.ParseReadAuth(cfg.ReadAuth); err != nil && cfg.ReadAuth != "" { // empty: already reported
		problems = append(problems, config.Problem{Variable: "VAULT_READ_AUTH", Message: err.Error()})
	}
	return d, problems
}

// checkKMS tells what is wrong with the key keeper's settings.
func checkKMS(k config.KMS) []config.Problem {
	if k.MasterKey.IsZero() {
		return nil // either not needed, or already reported
	}
	key, err := kms.ParseMasterKey(k.MasterKey.Reveal())
	if err != nil {
		return []config.Problem{{Variable: "VAULT_LOCAL_MASTER_KEY", Message: "isn't a key: write 32 bytes as 64 hexadecimal digits or as base64"}}
	}
	key.Release()
	return nil
}

// problem makes a problem of what a package of the domain says, whose public message is made to be shown.
func problem(variable string, err error) config.Problem {
	_, _, message, _ := fault.Public(err)
	return config.Problem{Variable: variable, Message: message}
}

// warn logs what an operator may have meant and most often didn't.
func warn(log *slog.Logger, cfg *config.API, d decisions) {
	if d.allowlist.IsEmpty() {
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
