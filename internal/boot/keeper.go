package boot

import (
	"fmt"

	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/sensitive"
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
