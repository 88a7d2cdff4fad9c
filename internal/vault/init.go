package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// errBeforeMACs is about a vault whose rows can't be told from forged ones.
var errBeforeMACs = fault.New(fault.Conflict,
	"this vault was initialised before its rows carried MACs, and nothing in it can be told from what somebody put there: start anew with an empty database and `sealkeep init`")

// LoadIdentity reads which vault the database holds. initialised is false when there is none yet. What it reads is verified by who opens
// the vault's keyring, which opens for no other id, and reads the grants.
func LoadIdentity(ctx context.Context, database *postgres.DB) (vaultID uuid.UUID, initialised bool, err error) {
	state, err := database.AuthzState(ctx)
	if postgres.IsNotFound(err) {
		return uuid.Nil, false, nil
	}
	if err != nil {
		return uuid.Nil, false, fmt.Errorf("reading the vault's identity: %w", err)
	}
	if state.Mac == nil || state.KeyID == nil {
		return uuid.Nil, false, errBeforeMACs
	}
	return state.VaultID, state.Initialised, nil
}

// OpenKeyring unwraps the integrity roots of the row purpose and of the given ones, and verifies every row of the keyring. The keyring
// follows what is stored: see [integrity.Keyring.Refresh]. The caller must Close it before the database and the keeper.
func OpenKeyring(ctx context.Context, database *postgres.DB, keeper Keeper, vaultID uuid.UUID, purposes ...integrity.Purpose) (*integrity.Keyring, error) {
	roots, err := storedRoots(ctx, database.Queries)
	if err != nil {
		return nil, err
	}
	keyring, err := openRoots(ctx, keeper, vaultID, roots, purposes...)
	if err != nil {
		return nil, err
	}
	keyring.Follow(keeper, func(ctx context.Context) ([]integrity.Root, error) { return storedRoots(ctx, database.Queries) })
	return keyring, nil
}

// openRoots is OpenKeyring for roots that were read.
func openRoots(ctx context.Context, keeper Keeper, vaultID uuid.UUID, roots []integrity.Root, purposes ...integrity.Purpose) (*integrity.Keyring, error) {
	if !slices.Contains(purposes, integrity.PurposeRow) {
		purposes = append(slices.Clip(purposes), integrity.PurposeRow)
	}
	for _, purpose := range purposes {
		if !slices.ContainsFunc(roots, func(r integrity.Root) bool { return r.Purpose == purpose && r.RetiredAt == nil }) {
			return nil, fmt.Errorf("the keyring has no live key for %s", purpose)
		}
	}
	keyring, err := integrity.OpenKeyring(ctx, keeper, vaultID, roots, purposes...)
	switch {
	case errors.Is(err, kms.ErrUnknownKey), errors.Is(err, kms.ErrInvalidCiphertext):
		return nil, fmt.Errorf("opening the keyring (is this the vault's own KMS key?): %w", err)
	case err != nil:
		return nil, fmt.Errorf("opening the keyring: %w", err)
	}
	if err := keyring.CheckRoots(roots); err != nil {
		keyring.Close()
		return nil, err
	}
	return keyring, nil
}

// storedRoots reads the keyring, in the order in which its roots were made.
func storedRoots(ctx context.Context, q *db.Queries) ([]integrity.Root, error) {
	rows, err := q.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the keyring: %w", err)
	}
	roots := make([]integrity.Root, len(rows))
	for i := range rows {
		row := &rows[i]
		roots[i] = integrity.Root{
			KeyID: row.KeyID, Purpose: integrity.Purpose(row.Purpose), Wrapped: row.WrappedKey, PublicKey: row.PublicKey, KMSKeyID: row.KmsKeyID,
			CreatedAt: row.CreatedAt, MAC: row.Mac, MACKeyID: row.MacKeyID,
		}
		if row.Retired {
			roots[i].RetiredAt = &row.RetiredAt
		}
	}
	return roots, nil
}

// Init makes the vault: its id, the integrity roots, the role admin and the first admin token, in one audited transaction. It
// works only on an empty vault; otherwise the error is of kind Conflict. bootstrapToken, if not zero, is taken as the
// token instead of a new one; it stays the caller's.
func Init(ctx context.Context, database *postgres.DB, keeper Keeper, bootstrapToken sensitive.Bytes, cfg Config) (*IssuedToken, error) {
	cfg.complete()
	issued := &IssuedToken{Name: "bootstrap", Role: AdminRole}
	fingerprint, err := firstToken(issued, bootstrapToken, cfg)
	if err != nil {
		return nil, err
	}
	if err := initialise(ctx, database, keeper, issued, fingerprint, cfg); err != nil {
		issued.Release()
		return nil, postgres.Fault(err)
	}
	return issued, nil
}

func firstToken(issued *IssuedToken, bootstrap sensitive.Bytes, cfg Config) (access.Fingerprint, error) {
	if bootstrap.IsZero() {
		text, fingerprint, err := access.NewToken(cfg.Random)
		if err != nil {
			return fingerprint, fault.Wrap(fault.Internal, fmt.Errorf("making a token: %w", err), "")
		}
		issued.Token = text
		return fingerprint, nil
	}
	fingerprint, err := access.ParseToken(bootstrap.Reveal())
	if err != nil {
		return fingerprint, fault.Wrap(fault.Invalid, err,
			"VAULT_BOOTSTRAP_TOKEN isn't a Sealkeep token: leave it unset to have one made")
	}
	issued.Token = bootstrap.Clone()
	return fingerprint, nil
}

func initialise(ctx context.Context, database *postgres.DB, keeper Keeper, issued *IssuedToken, fingerprint access.Fingerprint, cfg Config) error {
	vaultID, err := uuid.NewRandomFromReader(cfg.Random)
	if err != nil {
		return fault.Wrap(fault.Internal, fmt.Errorf("making the vault's id: %w", err), "")
	}
	roots, err := integrity.NewRoots(ctx, keeper, vaultID, cfg.Random)
	if err != nil {
		return fmt.Errorf("making the keyring: %w", err)
	}
	keyring, err := integrity.OpenKeyring(ctx, keeper, vaultID, roots, integrity.PurposeRow, integrity.PurposeAudit)
	if err != nil {
		return fmt.Errorf("opening the new keyring: %w", err)
	}
	defer keyring.Close()
	return database.InTx(ctx, func(tx *postgres.Tx) error {
		if err := requireEmpty(ctx, tx); err != nil {
			return err
		}
		server, err := tx.ServerIdentity(ctx)
		if err != nil {
			return fmt.Errorf("asking the server for its time: %w", err)
		}
		// First, as it is what two at once meet at.
		if err := tx.InsertAuthzState(ctx, db.InsertAuthzStateParams{VaultID: vaultID, Epoch: 1, Initialised: true}); err != nil {
			if postgres.IsUniqueViolation(err) {
				return errInitialised
			}
			return err
		}
		if err := insertKeys(ctx, tx, keyring, roots, server.ReadAt); err != nil {
			return err
		}
		g := noGrants(tx, keyring, 1, server.ReadAt)
		facts, err := g.insertAdmin(ctx, issued, fingerprint, nil, cfg)
		if err != nil {
			return err
		}
		facts["token"], facts["role"] = issued.Name, issued.Role
		if err := g.seal(ctx); err != nil {
			return err
		}
		if _, err := tx.EnsurePartitions(ctx, partitionDays); err != nil {
			return err
		}
		return audit.AppendOffline(ctx, tx, keyring, vaultID, "init", cfg.Random,
			offlineRecord("init", ActionInit, fmt.Sprintf(`{"vault_id":%q}`, vaultID)),
			offlineRecord("init", ActionTokenCreate, string(encoded(facts))))
	})
}

var errInitialised = fault.New(fault.Conflict, "the vault is initialised already").WithCode("already_initialised")

// requireEmpty refuses a database that holds anything of a vault, whatever its state row says.
func requireEmpty(ctx context.Context, tx *postgres.Tx) error {
	if _, err := tx.AuthzState(ctx); err == nil {
		return errInitialised
	} else if !postgres.IsNotFound(err) {
		return err
	}
	secrets, err := tx.CountSecrets(ctx)
	if err != nil {
		return err
	}
	keys, err := tx.Keys(ctx)
	if err != nil {
		return err
	}
	roles, err := tx.CountRoles(ctx)
	if err != nil {
		return err
	}
	if secrets > 0 || len(keys) > 0 || roles > 0 {
		return fault.New(fault.Conflict, "the database isn't empty: it holds parts of another vault").WithCode("not_empty")
	}
	return nil
}

func offlineRecord(command, action, detail string) audit.Record {
	return audit.Record{Actor: audit.ByOffline(command), Action: action, Outcome: outcomeOK, RequestID: "-", Detail: []byte(detail)}
}

// insertKeys stores a keyring's roots.
func insertKeys(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring, roots []integrity.Root, at time.Time) error {
	for _, root := range roots {
		root.CreatedAt = at
		mac, keyID, err := keys.MAC(root.Row())
		if err != nil {
			return err
		}
		err = tx.InsertKey(ctx, db.InsertKeyParams{
			KeyID: root.KeyID, Purpose: string(root.Purpose), WrappedKey: root.Wrapped, PublicKey: root.PublicKey, KmsKeyID: root.KMSKeyID,
			CreatedAt: at, Mac: mac, MacKeyID: &keyID,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
