package vault

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

func secretsPage(after uuid.UUID) db.SecretsPageParams {
	return db.SecretsPageParams{After: after, MaxRows: examinePage}
}

// checkOne verifies one secret with all its versions, and holds it against the trail.
func (x *examiner) checkOne(row *db.SecretsPageRow, found []db.VersionsOfRow) {
	s := &row.VaultSecret
	x.report.Secrets++
	x.report.Versions += int64(len(found))
	versions := make([]db.VersionsRow, len(found))
	current := false
	for i := range found {
		versions[i] = db.VersionsRow(found[i])
		x.countLacking(&versions[i])
		current = current || versions[i].Version == s.CurrentVersion && versions[i].State == string(secret.Current)
	}
	err := checkSecret(x.keys, s, row.Deleted)
	if err == nil {
		err = checkVersions(x.keys, s, versions)
	}
	if err == nil && !current {
		err = damaged("secret", s.Name, errNoCurrent)
	}
	if err != nil {
		x.find("secrets", "%v", err)
	}
	if x.told != nil {
		x.compareSecret(s, err == nil)
	}
}

// checkDeleted verifies what remains of deleted secrets.
func (x *examiner) checkDeleted(ctx context.Context) error {
	for after := (uuid.UUID{}); ; {
		page, err := x.q.DeletedSecretsPage(ctx, db.DeletedSecretsPageParams{After: after, MaxRows: examinePage})
		if err != nil {
			return fmt.Errorf("reading what remains of deleted secrets: %w", err)
		}
		for i := range page {
			row := &page[i]
			x.report.Deleted++
			tombstone := integrity.Tombstone{SecretID: row.SecretID, Name: row.Name, Revision: row.Revision, DeletedAt: row.DeletedAt}
			err := x.keys.Check(tombstone, row.Mac, row.KeyID)
			if err != nil {
				x.find("secrets", "%v", damaged("deleted secret", row.Name, err))
			}
			if x.told != nil {
				x.compareDeleted(row, err == nil)
			}
		}
		if len(page) < examinePage {
			return nil
		}
		after = page[len(page)-1].SecretID
	}
}
