package vault

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// toldControl is what the trail tells of the pause of all rotation.
type toldControl struct {
	revision int64
	paused   bool
	unproven bool
}

// hearControl takes up that all rotation was paused, or resumed.
func (t *told) hearControl(r *db.RecordsRow, facts *changeFacts, proven bool) {
	if facts.Revision == 0 {
		t.vague++
		return
	}
	if facts.Revision > t.control.revision {
		t.control = toldControl{revision: facts.Revision, paused: r.Action == ActionPauseAll, unproven: !proven}
	}
}

// checkRotation verifies what pauses all rotation, holds it against the trail, and verifies what lets somebody fetch.
func (x *examiner) checkRotation(ctx context.Context) error {
	row, err := x.q.StoredControl(ctx)
	missing := postgres.IsNotFound(err)
	if err != nil && !missing {
		return fmt.Errorf("reading whether rotation is paused: %w", err)
	}
	genuine := true
	if !missing {
		control := integrity.RotationControl{Paused: row.Paused, Revision: row.Revision, ChangedAt: row.ChangedAt}
		if err := x.keys.Check(control, row.Mac, row.KeyID); err != nil {
			x.find("rotation", "what says whether all rotation is paused doesn't verify, so that nothing rotates: %v", err)
			genuine = false
		}
	}
	if x.told != nil && genuine {
		x.compareControl(row.Revision, row.Paused)
	}
	return x.checkFetches(ctx)
}

// compareControl holds what pauses all rotation against the trail; revision is 0 where there is no row.
func (x *examiner) compareControl(revision int64, paused bool) {
	switch t := x.told.control; {
	case t.unproven && t.revision != revision:
		x.report.Untold++
	case revision > t.revision:
		x.ahead("rotation", "the pause of all rotation: the trail ends at revision %d, and the table has %d", t.revision, revision)
	case revision < t.revision:
		x.find("rotation", "the pause of all rotation: the trail says revision %d, and the table has %d: an older state was put back", t.revision, revision)
	case paused != t.paused && !t.unproven:
		x.find("rotation", "the trail says that the pause of all rotation is %v, and the table has %v", t.paused, paused)
	}
}

func (x *examiner) checkFetches(ctx context.Context) error {
	for after := []byte{}; ; {
		page, err := x.q.FetchesPage(ctx, db.FetchesPageParams{After: after, MaxRows: examinePage})
		if err != nil {
			return fmt.Errorf("reading what lets somebody fetch: %w", err)
		}
		for i := range page {
			row := &page[i]
			fetch := integrity.Fetch{
				Fingerprint: row.TokenSha256, SecretID: row.SecretID, VersionUID: row.VersionUid, CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt,
			}
			if err := x.keys.Check(fetch, row.Mac, row.KeyID); err != nil {
				x.find("rotation", "what lets somebody fetch a version of the secret %s doesn't verify, and is refused: %v", row.SecretID, err)
			}
		}
		if len(page) < examinePage {
			return nil
		}
		after = page[len(page)-1].TokenSha256
	}
}

// remacControl gives what pauses all rotation a MAC under the active root, after it was verified. One that is changed at the same time is
// left to the next pass.
func (w *keyWork) remacControl(ctx context.Context, active uuid.UUID) error {
	return w.database.InTx(ctx, func(tx *postgres.Tx) error {
		row, err := tx.StoredControl(ctx)
		if postgres.IsNotFound(err) {
			return nil
		}
		if err != nil || row.KeyID != nil && *row.KeyID == active {
			return err
		}
		control := integrity.RotationControl{Paused: row.Paused, Revision: row.Revision, ChangedAt: row.ChangedAt}
		if err := w.keys.Check(control, row.Mac, row.KeyID); err != nil {
			return damaged("row", "vault.rotation_control", err)
		}
		mac, keyID, err := w.keys.MAC(control)
		if err != nil {
			return err
		}
		_, err = tx.RemacControl(ctx, db.RemacControlParams{Revision: row.Revision, OldMac: row.Mac, Mac: mac, KeyID: &keyID})
		return err
	})
}
