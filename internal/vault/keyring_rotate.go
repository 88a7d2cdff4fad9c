package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// KeyRotation asks for new roots.
type KeyRotation struct {
	Purposes []integrity.Purpose
	// Resume makes no new root: it goes on with what was interrupted, if anything was.
	Resume bool
	// Batch is how many secrets one transaction gives new MACs; 0 means 200.
	Batch int
	// Progress, if not nil, is called after each transaction.
	Progress func(KeyRotated)
}

// KeyRotated is what a rotation did.
type KeyRotated struct {
	Made       []KeyInfo
	Resumed    bool // a rotation that was interrupted went on, and no new root was made
	Secrets    int  // that have new MACs, with their versions
	Versions   int
	Tombstones int
	Retired    []uuid.UUID // roots of rows that verify nothing any more
}

const (
	remacBatch = 200
	// remacPause is how long a pass that found rows held by somebody else waits, and how often it is looked whether transactions ended.
	remacPause = 50 * time.Millisecond
)

// RotateKeyring replaces roots of the keyring while the vault goes on serving. New roots count at once; for the purpose row every
// row then gets a MAC under the new one, after it was verified, and the old one is retired once no row names it. Each
// step is a transaction, so that an interrupted rotation is gone on with by calling it again. What doesn't verify ends it.
//
// Old roots of other purposes stay as verifiers: of audit streams, above all.
func RotateKeyring(ctx context.Context, database *postgres.DB, keeper Keeper, r KeyRotation, cfg Config) (*KeyRotated, error) {
	cfg.complete()
	if r.Batch <= 0 {
		r.Batch = remacBatch
	}
	w, err := openKeys(ctx, database, keeper)
	if err != nil {
		return nil, err
	}
	defer func() { w.keys.Close() }()
	rotated := &KeyRotated{}
	row := slices.Contains(r.Purposes, integrity.PurposeRow)
	rotated.Resumed = (row || r.Resume) && len(w.replaced()) > 0
	switch {
	case r.Resume && !rotated.Resumed:
		return nil, errNothingToResume
	case !rotated.Resumed:
		if err := w.replace(ctx, r.Purposes, rotated, cfg); err != nil {
			return nil, postgres.Fault(err)
		}
	}
	if len(w.replaced()) > 0 && (row || r.Resume) {
		if err := w.retire(ctx, r, rotated); err != nil {
			return rotated, postgres.Fault(err)
		}
	}
	return rotated, nil
}

// NothingToResume tells whether an error of RotateKeyring is only that.
func NothingToResume(err error) bool { return errors.Is(err, errNothingToResume) }

// replaced gives the roots of rows that aren't the active one and verify still.
func (w *keyWork) replaced() (old []*integrity.Root) {
	active, _ := w.keys.ActiveKeyID(integrity.PurposeRow)
	for i := range w.roots {
		if root := &w.roots[i]; root.Purpose == integrity.PurposeRow && root.RetiredAt == nil && root.KeyID != active {
			old = append(old, root)
		}
	}
	return old
}

// replace makes new roots. With a new row root, the keyring and the grants get their MACs under it in the same transaction: who hasn't
// noticed it can't verify the grants, nor commit a change under their epoch.
func (w *keyWork) replace(ctx context.Context, purposes []integrity.Purpose, rotated *KeyRotated, cfg Config) error {
	made, err := integrity.NewRootsFor(ctx, w.keeper, w.vaultID, cfg.Random, purposes...)
	if err != nil {
		return fmt.Errorf("making new roots: %w", err)
	}
	roots := append(slices.Clone(w.roots), made...)
	next, err := integrity.OpenKeyring(ctx, w.keeper, w.vaultID, roots, integrity.PurposeRow, integrity.PurposeAudit)
	if err != nil {
		return fmt.Errorf("opening the new roots: %w", err)
	}
	adopted := false
	defer func() {
		if !adopted {
			next.Close()
		}
	}()
	err = w.database.InTx(ctx, func(tx *postgres.Tx) error {
		epoch, err := w.changeGrants(ctx, tx, next)
		if err != nil {
			return err
		}
		server, err := tx.ServerIdentity(ctx)
		if err != nil {
			return fmt.Errorf("asking the server for its time: %w", err)
		}
		// The last one that was made is the active one, whatever has become of the clock.
		at := server.ReadAt
		if last := w.roots[len(w.roots)-1].CreatedAt; !at.After(last) {
			at = last.Add(time.Microsecond)
		}
		if err := insertKeys(ctx, tx, next, made, at); err != nil {
			return err
		}
		for i := range w.roots {
			root := w.roots[i]
			if err := changeKey(ctx, tx, next, &root); err != nil {
				return err
			}
		}
		records := make([]audit.Record, len(made))
		for i := range made {
			records[i] = keyRecord("keyring rotate", ActionKeyringRotate, made[i], epoch)
		}
		return audit.AppendOffline(ctx, tx, next, w.vaultID, "keyring rotate", cfg.Random, records...)
	})
	if err != nil {
		return err
	}
	adopted = true
	w.keys.Close()
	w.keys = next
	if w.roots, err = storedRoots(ctx, w.database.Queries); err != nil {
		return err
	}
	for i := range w.roots {
		if slices.ContainsFunc(made, func(r integrity.Root) bool { return r.KeyID == w.roots[i].KeyID }) {
			rotated.Made = append(rotated.Made, infoOf(w.roots, i, nil))
		}
	}
	return nil
}

// changeGrants verifies the grants, and gives all of them MACs under the active root of keys, where they have another, and another epoch:
// every process then looks at the keyring, too. It locks out whoever else would change the keyring or the grants.
func (w *keyWork) changeGrants(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring) (epoch int64, err error) {
	err = changeGrants(ctx, tx, keys, func(g *regrant) error {
		epoch = g.epoch
		if err := w.unmoved(ctx, tx); err != nil {
			return err
		}
		return g.remac(ctx)
	})
	return epoch, err
}

// retire gives every row a MAC under the active root and retires those that it replaced.
func (w *keyWork) retire(ctx context.Context, r KeyRotation, rotated *KeyRotated) error {
	horizon, err := w.database.Horizon(ctx)
	if err != nil {
		return fmt.Errorf("asking which transactions are under way: %w", err)
	}
	for {
		for {
			left, err := w.remacAll(ctx, r, rotated)
			if err != nil {
				return err
			}
			if !left {
				break
			}
			if !pause(ctx, remacPause) { // somebody holds them
				return ctx.Err()
			}
		}
		if err := w.awaitOlder(ctx, horizon.Next); err != nil {
			return err
		}
		switch done, err := w.retireOld(ctx, rotated); {
		case err != nil:
			return err
		case done:
			return nil
		}
	}
}

// awaitOlder waits until the transactions have ended that were under way when the new root began to count. A process that hadn't
// noticed it could commit no change since but in one of these, because the grants' epoch had moved; so once they are over, no more
// rows come under the old one.
func (w *keyWork) awaitOlder(ctx context.Context, next int64) error {
	for {
		horizon, err := w.database.Horizon(ctx)
		if err != nil {
			return fmt.Errorf("asking which transactions are under way: %w", err)
		}
		if horizon.Oldest >= next {
			return nil
		}
		if !pause(ctx, remacPause) {
			return ctx.Err()
		}
	}
}

// retireOld retires the replaced roots if no row names them.
func (w *keyWork) retireOld(ctx context.Context, rotated *KeyRotated) (done bool, err error) {
	active, _ := w.keys.ActiveKeyID(integrity.PurposeRow)
	var retired []uuid.UUID
	err = w.database.InTx(ctx, func(tx *postgres.Tx) error {
		retired = nil
		epoch, err := w.changeGrants(ctx, tx, w.keys)
		if err != nil {
			return err
		}
		left, err := tx.RowsNotUnder(ctx, active)
		if err != nil {
			return err
		}
		if rowsLeft(left) {
			return errRowsLeft
		}
		// What lets somebody fetch once, for some minutes, gets no new MAC: the rotation that made it fails, and makes another.
		if _, err := tx.RetireFetches(ctx, active); err != nil {
			return err
		}
		server, err := tx.ServerIdentity(ctx)
		if err != nil {
			return fmt.Errorf("asking the server for its time: %w", err)
		}
		var records []audit.Record
		for _, old := range w.replaced() {
			root := *old
			root.RetiredAt = &server.ReadAt
			if err := changeKey(ctx, tx, w.keys, &root); err != nil {
				return err
			}
			retired = append(retired, root.KeyID)
			records = append(records, keyRecord("keyring rotate", ActionKeyringRetire, root, epoch))
		}
		return audit.AppendOffline(ctx, tx, w.keys, w.vaultID, "keyring rotate", nil, records...)
	})
	if errors.Is(err, errRowsLeft) {
		return false, nil
	}
	if err == nil {
		rotated.Retired = retired
	}
	return err == nil, err
}

var errRowsLeft = errors.New("rows name another root still")
