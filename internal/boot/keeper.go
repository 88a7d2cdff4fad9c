package boot

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// parseMasterKey gives the local master key, or tells what is wrong with it; zero if there is none, which config has
// reported where one is needed. The caller releases it.
func parseMasterKey(k config.KMS) (sensitive.Bytes, []config.Problem) {
	if k.MasterKey.IsZero() {
		return sensitive.Bytes{}, nil
	}
	key, err := kms.ParseMasterKey(k.MasterKey.Reveal())
	if err != nil {
		const form = "32 bytes as 64 hexadecimal digits or as base64"
		message := "isn't a key: write " + form
		if strings.HasSuffix(k.MasterKeyVariable, "_FILE") {
			message = "names a file that holds no key: it is to hold " + form
		}
		return sensitive.Bytes{}, []config.Problem{{Variable: k.MasterKeyVariable, Message: message}}
	}
	return key, nil
}

// understandKMS gives the local master key and the other keys of AWS that are allowed, or tells what is wrong. The caller
// releases the master key.
func understandKMS(k config.KMS) (sensitive.Bytes, []kms.ARN, []config.Problem) {
	if k.Mode != "aws" {
		key, problems := parseMasterKey(k)
		return key, nil, problems
	}
	var problems []config.Problem
	allowed, err := kms.ParseARNs(k.AllowedKeyIDs)
	if err != nil {
		problems = append(problems, config.Problem{Variable: "VAULT_KMS_ALLOWED_KEY_IDS", Message: err.Error()})
	}
	if err := kms.CheckKeyID(k.KeyID); k.KeyID != "" && err != nil {
		problems = append(problems, config.Problem{Variable: "VAULT_KMS_KEY_ID", Message: err.Error()})
	}
	if _, err := kms.ParseARN(k.RecoveryKeyID); k.RecoveryKeyID != "" && err != nil {
		problems = append(problems, config.Problem{Variable: "VAULT_KMS_RECOVERY_KEY_ID", Message: err.Error()})
	}
	if k.RecoveryKeyID != "" && k.RecoveryKeyID == k.KeyID {
		problems = append(problems, config.Problem{Variable: "VAULT_KMS_RECOVERY_KEY_ID", Message: "is VAULT_KMS_KEY_ID itself: name a key of another Region or account"})
	}
	if k.Endpoint != "" {
		if u, err := url.Parse(k.Endpoint); err != nil {
			problems = append(problems, config.Problem{Variable: "AWS_ENDPOINT_URL_KMS", Message: "isn't a URL: write https://HOST"})
		} else if err := kms.CheckEndpoint(u); err != nil {
			problems = append(problems, config.Problem{Variable: "AWS_ENDPOINT_URL_KMS", Message: err.Error()})
		}
	}
	return sensitive.Bytes{}, allowed, problems
}

// newKeeper makes the key keeper, which the caller closes. masterKey stays the caller's to release. A key of AWS that is
// named by an alias or a bare id is resolved before anything is opened.
func newKeeper(ctx context.Context, cfg config.KMS, masterKey sensitive.Bytes, allowed []kms.ARN, log *slog.Logger, metrics prometheus.Registerer) (kms.Keeper, error) {
	if cfg.Mode == "local" {
		keeper, err := kms.NewLocal(masterKey, nil)
		if err != nil {
			return nil, fmt.Errorf("opening the local key keeper: %w", err)
		}
		return keeper, nil
	}
	return newAWS(ctx, cfg, allowed, log, metrics)
}

// newAWS makes the keeper for AWS KMS, with the recovery key's beside it if there is one. The metrics are those of the key in use.
func newAWS(ctx context.Context, cfg config.KMS, allowed []kms.ARN, log *slog.Logger, metrics prometheus.Registerer) (kms.Keeper, error) {
	observe := func(used bool) prometheus.Registerer {
		if used {
			return metrics
		}
		return nil
	}
	primary, err := kms.NewAWS(ctx, kms.AWSConfig{
		KeyID: cfg.KeyID, Allowed: allowed, Region: cfg.Region, Endpoint: cfg.Endpoint, Retries: cfg.MaxRetries, Log: log,
		Metrics: observe(!cfg.UseRecovery),
	})
	if err != nil {
		return nil, fmt.Errorf("preparing to use AWS KMS (VAULT_KMS_KEY_ID, AWS_REGION): %w", err)
	}
	recovery, err := newRecovery(ctx, cfg, log, observe(cfg.UseRecovery))
	if err != nil {
		primary.Close()
		return nil, err
	}
	keeper, err := kms.NewRecoverable(primary, recovery, kms.RecoveryConfig{UseRecovery: cfg.UseRecovery, Log: log, Metrics: metrics})
	if err != nil {
		primary.Close()
		return nil, err
	}
	if cfg.UseRecovery {
		return keeper, nil // the other one may be lost
	}
	if err := primary.Resolve(ctx); err != nil {
		keeper.Close()
		return nil, fmt.Errorf("asking AWS KMS which key VAULT_KMS_KEY_ID names: %w", keeper.Advise(err))
	}
	return keeper, nil
}

// newRecovery makes the recovery key's keeper, or nil.
func newRecovery(ctx context.Context, cfg config.KMS, log *slog.Logger, metrics prometheus.Registerer) (kms.Keeper, error) {
	if cfg.RecoveryKeyID == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	arn, err := kms.ParseARN(cfg.RecoveryKeyID)
	if err != nil {
		return nil, fmt.Errorf("VAULT_KMS_RECOVERY_KEY_ID: %w", err)
	}
	keeper, err := kms.NewAWS(ctx, kms.AWSConfig{
		KeyID: cfg.RecoveryKeyID, Region: arn.Region(), Endpoint: cfg.Endpoint, Retries: cfg.MaxRetries, Log: log.With("kms", "recovery"), Metrics: metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("preparing to use the recovery key (VAULT_KMS_RECOVERY_KEY_ID): %w", err)
	}
	return keeper, nil
}

// Rewrapper is the keeper as it wraps stored data keys again.
func Rewrapper(keeper vault.Keeper) vault.Rewrapper {
	switch k := keeper.(type) {
	case *kms.Recoverable:
		return k
	case *kms.Local: // its one key never changes, and each wrapping can be made anew
		if r, err := kms.NewRecoverable(k, nil, kms.RecoveryConfig{}); err == nil {
			return r
		}
	}
	return nil
}

// cache puts a cache of data keys before the keeper, unless it is turned off. The roots of the keyring are not to pass
// through it: they are unwrapped once.
func (s *service) cache(keeper kms.Keeper) (kms.Keeper, error) {
	if s.cfg.DEKCacheTTL == 0 {
		return keeper, nil
	}
	c, err := kms.NewCache(keeper, kms.CacheConfig{TTL: s.cfg.DEKCacheTTL, Log: s.log, Metrics: s.metrics})
	if err != nil {
		return nil, fmt.Errorf("making the cache of data keys: %w", err)
	}
	s.release.add(c.Close)
	return c, nil
}
