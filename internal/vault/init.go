package vault

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// LoadIdentity reads which vault the database holds. initialised is false when there is none yet.
func LoadIdentity(ctx context.Context, database *postgres.DB) (vaultID uuid.UUID, initialised bool, err error) {
	state, err := database.AuthzState(ctx)
	if postgres.IsNotFound(err) {
		return uuid.Nil, false, nil
	}
	if err != nil {
		return uuid.Nil, false, fmt.Errorf("reading the vault's identity: %w", err)
	}
	return state.VaultID, state.Initialised, nil
}

// OpenKeyring unwraps the integrity roots of the given purposes. The caller must Close it.
func OpenKeyring(ctx context.Context, database *postgres.DB, keeper Keeper, vaultID uuid.UUID, purposes ...integrity.Purpose) (*integrity.Keyring, error) {
	rows, err := database.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the keyring: %w", err)
	}
	// Retired roots still verify what was MACed under them. They go first, because the last root of a purpose is the active one.
	var roots, live []integrity.Root
	alive := map[integrity.Purpose]bool{}
	for _, row := range rows {
		root := integrity.Root{
			KeyID: row.KeyID, Purpose: integrity.Purpose(row.Purpose), Wrapped: row.WrappedKey,
			PublicKey: row.PublicKey, KMSKeyID: row.KmsKeyID,
		}
		if row.RetiredAt != nil {
			roots = append(roots, root)
			continue
		}
		live = append(live, root)
		alive[root.Purpose] = true
	}
	for _, purpose := range purposes {
		if !alive[purpose] {
			return nil, fmt.Errorf("the keyring has no live key for %s", purpose)
		}
	}
	roots = append(roots, live...)
	keyring, err := integrity.OpenKeyring(ctx, keeper, vaultID, roots, purposes...)
	if err != nil {
		return nil, fmt.Errorf("opening the keyring (is this the vault's own KMS key?): %w", err)
	}
	return keyring, nil
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
		return fmt.Errorf("making the vault's id: %w", err)
	}
	roots, err := integrity.NewRoots(ctx, keeper, vaultID, cfg.Random)
	if err != nil {
		return fmt.Errorf("making the keyring: %w", err)
	}
	keyring, err := integrity.OpenKeyring(ctx, keeper, vaultID, roots, integrity.PurposeAudit)
	if err != nil {
		return fmt.Errorf("opening the new keyring: %w", err)
	}
	defer keyring.Close()
	return database.InTx(ctx, func(tx *postgres.Tx) error {
		if err := requireEmpty(ctx, tx); err != nil {
			return err
		}
		if err := tx.InsertAuthzState(ctx, vaultID); err != nil {
			if postgres.IsUniqueViolation(err) {
				return errInitialised
			}
			return err
		}
		for _, root := range roots {
			err := tx.InsertKey(ctx, db.InsertKeyParams{
				KeyID: root.KeyID, Purpose: string(root.Purpose), WrappedKey: root.Wrapped, PublicKey: root.PublicKey, KmsKeyID: root.KMSKeyID,
			})
			if err != nil {
				return err
			}
		}
		roleID, err := uuid.NewRandomFromReader(cfg.Random)
		if err != nil {
			return fmt.Errorf("making a role id: %w", err)
		}
		_, err = tx.InsertRole(ctx, db.InsertRoleParams{ID: roleID, Name: AdminRole, Description: "May do everything.", IsAdmin: true})
		if err != nil {
			return err
		}
		if err := insertToken(ctx, tx, cfg, issued, roleID, fingerprint, nil); err != nil {
			return err
		}
		if _, err := tx.EnsurePartitions(ctx, partitionDays); err != nil {
			return err
		}
		return audit.AppendOffline(ctx, tx, keyring, vaultID, "init",
			offlineRecord("init", ActionInit, fmt.Sprintf(`{"vault_id":%q}`, vaultID)),
			offlineRecord("init", ActionTokenCreate, fmt.Sprintf(`{"token":%q,"role":%q}`, issued.Name, issued.Role)))
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
	roles, err := tx.Roles(ctx)
	if err != nil {
		return err
	}
	if secrets > 0 || len(keys) > 0 || len(roles) > 0 {
		return fault.New(fault.Conflict, "the database isn't empty: it holds parts of another vault").WithCode("not_empty")
	}
	return nil
}

func offlineRecord(command, action, detail string) audit.Record {
	return audit.Record{Actor: "offline:" + command, Action: action, Outcome: outcomeOK, RequestID: "-", Detail: []byte(detail)}
}

// RecoverToken issues a token of the built-in admin role to whoever holds the database and the KMS, for when every admin
// token is lost. It is audited on a stream of its own.
func RecoverToken(ctx context.Context, database *postgres.DB, keeper Keeper, name string, expiresInSecs *int64, cfg Config) (*IssuedToken, error) {
	cfg.complete()
	parsed, err := access.ParseEntityName(name)
	if err != nil {
		return nil, err
	}
	if err := checkExpiry(expiresInSecs); err != nil {
		return nil, err
	}
	vaultID, initialised, err := LoadIdentity(ctx, database)
	if err != nil {
		return nil, postgres.Fault(err)
	}
	if !initialised {
		return nil, fault.New(fault.Conflict, "the vault isn't initialised: run `sealkeep init`")
	}
	keyring, err := OpenKeyring(ctx, database, keeper, vaultID, integrity.PurposeAudit)
	if err != nil {
		return nil, err
	}
	defer keyring.Close()
	text, fingerprint, err := access.NewToken(cfg.Random)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, fmt.Errorf("making a token: %w", err), "")
	}
	issued := &IssuedToken{Name: parsed, Role: AdminRole, Token: text}
	err = database.InTx(ctx, func(tx *postgres.Tx) error {
		role, err := lockRole(ctx, tx, AdminRole)
		if err != nil {
			return err
		}
		if err := tx.DeleteDeadToken(ctx, parsed); err != nil {
			return err
		}
		if err := insertToken(ctx, tx, cfg, issued, role.ID, fingerprint, expiresInSecs); err != nil {
			return err
		}
		return audit.AppendOffline(ctx, tx, keyring, vaultID, "token recover",
			offlineRecord("token recover", ActionTokenRecover, fmt.Sprintf(`{"token":%q,"role":%q}`, issued.Name, issued.Role)))
	})
	if err != nil {
		issued.Release()
		return nil, postgres.Fault(err)
	}
	return issued, nil
}
