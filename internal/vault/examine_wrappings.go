package vault

import (
	"context"

	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// What lacks a wrapping is as the vault wrote it, and mends by itself or by `sealkeep keyring fill`. So it is a note and no finding; but
// while it is so, the loss of one master key would lose it.

// prepareWrappings asks what has to be asked, before a snapshot is held, and looks at the keyring's roots.
func (x *examiner) prepareWrappings(ctx context.Context, database *postgres.DB) error {
	rewrapper := x.options.Rewrapper
	if rewrapper == nil {
		return nil
	}
	if err := rewrapper.Prepare(ctx); err != nil {
		x.note("it couldn't be asked which key VAULT_KMS_KEY_ID names, so a wrapping under any key counts for one under that: %v", err)
	}
	n, err := RootsLacking(ctx, database, rewrapper)
	if err != nil {
		return err
	}
	if n > 0 {
		x.note("%d of the vault's own keys lack the wrapping of one of the two master keys, or are under another one: run `sealkeep keyring fill`", n)
	}
	return nil
}

func (x *examiner) countLacking(row *db.VersionsRow) {
	if x.options.Rewrapper == nil {
		return
	}
	switch x.options.Rewrapper.Judge(kms.Stored{Wrapped: row.WrappedDek, KeyID: row.KmsKeyID}) {
	case kms.Lacking:
		x.lacking++
	case kms.Elsewhere:
		x.elsewhere++
	default:
	}
}

func (x *examiner) noteLacking() {
	if x.lacking > 0 {
		x.note("%d versions lack the wrapping of one of the two master keys: a rotator adds it within the hour, and its log says why if it can't", x.lacking)
	}
	if x.elsewhere > 0 {
		x.note("%d versions are under another master key than the one in use: a rotator moves them within the hour, and its log says why if it can't", x.elsewhere)
	}
}
