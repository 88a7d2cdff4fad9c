package boot

import (
	"fmt"

	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// keeper is a vault's key keeper that is closed when its process ends.
type keeper interface {
	vault.Keeper
	Close()
}

// newKeeper makes the keeper that the configuration names. k stays the caller's to release.
func newKeeper(k config.KMS) (keeper, error) {
	if err := config.NewError(checkKMS(k)); err != nil {
		return nil, err
	}
	key, err := kms.ParseMasterKey(k.MasterKey.Reveal())
	if err != nil {
		return nil, err
	}
	defer key.Release()
	local, err := kms.NewLocal(key, nil)
	if err != nil {
		return nil, fmt.Errorf("opening the local key keeper: %w", err)
	}
	return local, nil
}
