package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// KeyState is what a root of the keyring is still good for.
type KeyState string

// The states.
const (
	KeyActive   KeyState = "active"   // what is new is made under it
	KeyVerifies KeyState = "verifies" // it was replaced, and verifies what was made under it
	KeyRetired  KeyState = "retired"  // it verifies nothing any more
)

// KeyInfo tells of a root what may be told to anyone.
type KeyInfo struct {
	KeyID     uuid.UUID
	Purpose   integrity.Purpose
	State     KeyState
	CreatedAt time.Time
	RetiredAt *time.Time
	// KMSKeyID and RecoveryKeyID are the master keys that wrap it, empty where none does.
	KMSKeyID, RecoveryKeyID string
	Lacks                   bool // a wrapping, where every root should have two
	Elsewhere               bool // it is under another master key than the one in use
}

// Keys lists the roots of a vault's keyring, in the order in which they were made, after it verified them. rewrapper may be nil.
func Keys(ctx context.Context, database *postgres.DB, keeper Keeper, rewrapper Rewrapper) ([]KeyInfo, error) {
	w, err := openKeys(ctx, database, keeper)
	if err != nil {
		return nil, err
	}
	defer w.keys.Close()
	prepare(ctx, rewrapper)
	infos := make([]KeyInfo, len(w.roots))
	for i := range w.roots {
		infos[i] = infoOf(w.roots, i, rewrapper)
	}
	return infos, nil
}

func infoOf(roots []integrity.Root, i int, rewrapper Rewrapper) KeyInfo {
	root := &roots[i]
	info := KeyInfo{
		KeyID: root.KeyID, Purpose: root.Purpose, State: KeyActive, CreatedAt: root.CreatedAt, RetiredAt: root.RetiredAt,
	}
	judged := judge(root, rewrapper)
	info.Lacks, info.Elsewhere = judged == kms.Lacking, judged == kms.Elsewhere
	info.KMSKeyID, info.RecoveryKeyID = kms.WrappedUnder(root.Wrapped, root.KMSKeyID)
	for _, later := range roots[i+1:] {
		if later.Purpose == root.Purpose && later.RetiredAt == nil {
			info.State = KeyVerifies
		}
	}
	if root.RetiredAt != nil {
		info.State = KeyRetired
	}
	return info
}

// prepare lets a rewrapper ask what it may need for telling what is whole. If it can't, a wrapping under any key counts: what is only
// to be shown is shown all the same.
func prepare(ctx context.Context, rewrapper Rewrapper) {
	if rewrapper != nil {
		_ = rewrapper.Prepare(ctx)
	}
}

// judge tells whether a root that is still good for something is to be wrapped again.
func judge(root *integrity.Root, rewrapper Rewrapper) kms.Wrapping {
	if rewrapper == nil || root.RetiredAt != nil {
		return kms.Whole
	}
	return rewrapper.Judge(root.Stored())
}

// RootsLacking tells how many roots aren't wrapped by the master keys as they should be, which FillKeyring mends.
func RootsLacking(ctx context.Context, database *postgres.DB, rewrapper Rewrapper) (int, error) {
	roots, err := storedRoots(ctx, database.Queries)
	if err != nil {
		return 0, err
	}
	n := 0
	for i := range roots {
		if judge(&roots[i], rewrapper) != kms.Whole {
			n++
		}
	}
	return n, nil
}

// keyWork is a vault's keyring in the hands of an offline command.
type keyWork struct {
	database *postgres.DB
	keeper   Keeper
	vaultID  uuid.UUID
	roots    []integrity.Root // as they were read
	keys     *integrity.Keyring
}

func openKeys(ctx context.Context, database *postgres.DB, keeper Keeper) (*keyWork, error) {
	vaultID, initialised, err := LoadIdentity(ctx, database)
	if err != nil {
		return nil, postgres.Fault(err)
	}
	if !initialised {
		return nil, fault.New(fault.Conflict, "the vault isn't initialised: run `sealkeep init`")
	}
	w := &keyWork{database: database, keeper: keeper, vaultID: vaultID}
	if w.roots, err = storedRoots(ctx, database.Queries); err != nil {
		return nil, err
	}
	w.keys, err = openRoots(ctx, keeper, vaultID, w.roots, integrity.PurposeRow, integrity.PurposeAudit)
	return w, err
}

var errKeysMoved = fault.New(fault.Conflict, "somebody else changed the keyring at the same time: run this again")

// unmoved makes sure, under the lock that whoever changes the keyring takes, that it still is as it was read.
func (w *keyWork) unmoved(ctx context.Context, tx *postgres.Tx) error {
	now, err := storedRoots(ctx, tx.Queries)
	if err != nil {
		return err
	}
	if len(now) != len(w.roots) {
		return errKeysMoved
	}
	for i := range now {
		if string(now[i].MAC) != string(w.roots[i].MAC) {
			return errKeysMoved
		}
	}
	return nil
}

// changeKey stores what a root has become, with a MAC under the active root of keys.
func changeKey(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring, root *integrity.Root) error {
	mac, keyID, err := keys.MAC(root.Row())
	if err != nil {
		return err
	}
	old := root.MAC
	root.MAC, root.MACKeyID = mac, &keyID
	return exactly(1)(tx.ChangeKey(ctx, db.ChangeKeyParams{
		KeyID: root.KeyID, WrappedKey: root.Wrapped, KmsKeyID: root.KMSKeyID, RetiredAt: root.RetiredAt, Mac: mac, MacKeyID: &keyID, OldMac: old,
	}))
}

// FillKeyring wraps those of the keyring's roots again that lack a wrapping or are under another master key than the one in use, and tells how
// many. It is audited.
func FillKeyring(ctx context.Context, database *postgres.DB, keeper Keeper, rewrapper Rewrapper) (int, error) {
	if rewrapper == nil {
		return 0, fault.New(fault.Conflict, "there is no key of a KMS to wrap the keyring's roots under")
	}
	w, err := openKeys(ctx, database, keeper)
	if err != nil {
		return 0, err
	}
	defer w.keys.Close()
	if err := rewrapper.Prepare(ctx); err != nil {
		return 0, fmt.Errorf("asking which keys are in use: %w", err)
	}
	var filled []*integrity.Root
	wrapped := map[uuid.UUID]rewrapping{}
	for i := range w.roots {
		root := &w.roots[i]
		if judge(root, rewrapper) == kms.Whole {
			continue
		}
		next := rewrapping{}
		if next.wrapped, next.keyID, err = integrity.FillRoot(ctx, rewrapper, w.vaultID, *root); err != nil {
			return 0, fmt.Errorf("wrapping the %s key %s again: %w", root.Purpose, root.KeyID, err)
		}
		wrapped[root.KeyID] = next
		filled = append(filled, root)
	}
	if len(filled) == 0 {
		return 0, nil
	}
	err = database.InTx(ctx, func(tx *postgres.Tx) error {
		if _, err := tx.LockAuthzState(ctx); err != nil {
			return err
		}
		if err := w.unmoved(ctx, tx); err != nil {
			return err
		}
		var records []audit.Record
		for _, root := range filled {
			root.Wrapped, root.KMSKeyID = wrapped[root.KeyID].wrapped, wrapped[root.KeyID].keyID
			if err := changeKey(ctx, tx, w.keys, root); err != nil {
				return err
			}
			records = append(records, keyRecord("keyring fill", ActionKeyringFill, *root, 0))
		}
		return audit.AppendOffline(ctx, tx, w.keys, w.vaultID, "keyring fill", nil, records...)
	})
	if err != nil {
		return 0, postgres.Fault(err)
	}
	return len(filled), nil
}

// keyRecord tells of a root, and of the epoch that the grants have come to, if it was raised.
func keyRecord(command, action string, root integrity.Root, epoch int64) audit.Record {
	detail := map[string]any{"key_id": root.KeyID.String(), "purpose": string(root.Purpose)}
	if epoch != 0 {
		detail["epoch"] = epoch
	}
	return offlineRecord(command, action, string(encoded(detail)))
}

// errNothingToResume says that no rotation was interrupted.
var errNothingToResume = errors.New("no rotation was interrupted: nothing is left to do")
