package boot

import (
	"fmt"

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
		return sensitive.Bytes{}, []config.Problem{
			{Variable: "VAULT_LOCAL_MASTER_KEY", Message: "isn't a key: write 32 bytes as 64 hexadecimal digits or as base64"},
		}
	}
	return key, nil
}

// newKeeper makes the key keeper, which the caller closes. masterKey stays the caller's to release.
func newKeeper(masterKey sensitive.Bytes) (*kms.Local, error) {
	keeper, err := kms.NewLocal(masterKey, nil)
	if err != nil {
		return nil, fmt.Errorf("opening the local key keeper: %w", err)
	}
	return keeper, nil
}

// cache puts a cache of data keys before the keeper, unless it is turned off. The roots of the keyring are not to pass
// through it: they are unwrapped once.
func (p *APIProcess) cache(keeper vault.Keeper, cfg *API, metrics prometheus.Registerer) (vault.Keeper, error) {
	if cfg.DEKCacheTTL == 0 {
		return keeper, nil
	}
	c, err := kms.NewCache(keeper, kms.CacheConfig{TTL: cfg.DEKCacheTTL, Log: p.log, Metrics: metrics})
	if err != nil {
		return nil, fmt.Errorf("making the cache of data keys: %w", err)
	}
	p.release.add(c.Close)
	return c, nil
}
