// Package vault holds the use cases: what can be asked of a vault, by whom, and with what evidence.
//
// Every use case takes an explicit Caller and passes one function, pass, which decides, runs it, and commits the evidence
// before an answer may leave. There is no way around it and no identity from a context.
//
// Invariants:
//   - I1: plaintext stays in sensitive.Bytes from the edge to the envelope and back.
//   - I2, I3: an answer is returned only once its audit record is committed, and only if the rows and the grants that it rests on
//     were current in the round that did; a mutation and its record commit together, under the grants that allowed it.
//   - I4: what can't be decided or verified is refused.
//   - I5: a version opens only in its own place; one that doesn't raises an alarm.
//   - I6: the database is no authority: grants count only as the set that the vault made, and what somebody with write access to the
//     tables adds, edits or puts back has no effect, or fails closed with an alarm.
//   - I9: a superseded version is valid until its expiry, by the database's clock, and never after.
//   - I12: values and fingerprints are compared in constant time; verify opens every valid version whatever matched.
package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/envelope"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Keeper makes and unwraps data keys; the key management service that it stands for is the only thing that can.
type Keeper interface {
	// GenerateDataKey returns a new 256-bit key, in plaintext and wrapped under the encryption context.
	GenerateDataKey(ctx context.Context, encryptionContext kms.Context) (kms.DataKey, error)
	// Decrypt unwraps; the caller releases the key.
	Decrypt(ctx context.Context, wrapped []byte, keyID string, encryptionContext kms.Context) (sensitive.Bytes, error)
	// KeyID names the key that new data keys are wrapped under.
	KeyID() string
	// Status tells how the key management service is.
	Status() kms.Status
}

// ReadAuth says what a reader must bring besides an allowlisted address.
type ReadAuth string

const (
	// ReadAuthIP asks for nothing more: every host on the allowlist reads everything.
	ReadAuthIP ReadAuth = "ip"
	// ReadAuthIPToken asks for a token whose role may read the name, too.
	ReadAuthIPToken ReadAuth = "ip+token"
)

// Config tunes a Vault.
type Config struct {
	// Allowlist holds the addresses that values may be disclosed to. The zero value denies every read.
	Allowlist access.Allowlist
	// ReadAuth is what else a reader must bring; the zero value means ReadAuthIPToken, the stricter one.
	ReadAuth ReadAuth
	// SealedCacheBytes bounds the sealed rows that are kept in memory, in bytes; 0 keeps none, and every read looks its rows up.
	SealedCacheBytes uint64
	Log              *slog.Logger
	Metrics          prometheus.Registerer // nil: metrics are kept but not registered
	// Rewrapper is the keeper as a rotator wraps stored data keys again by it; nil if it doesn't. RewrapPerSecond bounds how many it wraps in a
	// second; 0 means 20.
	Rewrapper       Rewrapper
	RewrapPerSecond int
	// Random makes values, tokens, nonces and ids; nil means the system's generator. What it
	// gives is tested; see package randomness.
	Random io.Reader
	// Clock gives local time with a monotonic reading, for what is measured here alone; validity is the database's to
	// judge. Nil means time.Now.
	Clock func() time.Time
}

func (c *Config) complete() {
	if c.ReadAuth == "" {
		c.ReadAuth = ReadAuthIPToken
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Random = randomness.New(c.Random)
	if c.Clock == nil {
		c.Clock = time.Now //nolint:forbidigo // the default of the injected clock
	}
}

// Vault serves the use cases. It is safe for concurrent use.
type Vault struct {
	db      *postgres.DB
	trail   *audit.Trail
	keeper  Keeper
	keys    *integrity.Keyring
	vaultID uuid.UUID
	cfg     Config
	log     *slog.Logger
	sealer  *envelope.Sealer
	metrics *metrics
	uses    tokenUses
	rows    *sealedRows
	lookups *lookups
	grants  *grants
	seen    *seen
	// controlSeen is the highest revision of what pauses all rotation that was ever verified or made here; 0 is none.
	controlSeen atomic.Int64

	mu              sync.Mutex
	started         bool
	stopped         bool
	cancel          context.CancelFunc
	loops           sync.WaitGroup
	partitionsUntil time.Time // as last ensured, on our clock
}

// New makes a Vault over a database whose schema was checked and a started trail. keys are those of this vault, the row purpose among
// them, and outlive it. Stop the Vault before the trail, and the trail before the database.
func New(database *postgres.DB, trail *audit.Trail, keeper Keeper, keys *integrity.Keyring, cfg Config) (*Vault, error) {
	v, err := newVault(database, trail, keeper, keys, cfg)
	if err != nil {
		return nil, err
	}
	v.metrics.registerGrants(v.cfg.Metrics)
	return v, nil
}

func newVault(database *postgres.DB, trail *audit.Trail, keeper Keeper, keys *integrity.Keyring, cfg Config) (*Vault, error) {
	cfg.complete()
	if _, ok := keys.ActiveKeyID(integrity.PurposeRow); !ok {
		return nil, errors.New("vault: the keyring was opened without the key of rows")
	}
	sealer, err := envelope.NewSealer(cfg.Random)
	if err != nil {
		return nil, fmt.Errorf("making the sealer: %w", err)
	}
	v := &Vault{
		db: database, trail: trail, keeper: keeper, keys: keys, vaultID: keys.VaultID(), cfg: cfg, log: cfg.Log,
		sealer: sealer, uses: tokenUses{seen: map[uuid.UUID]time.Time{}}, seen: newSeen(),
	}
	v.grants = newGrants(v)
	if v.rows, err = newSealedRows(cfg.SealedCacheBytes, cfg.Clock); err != nil {
		return nil, fmt.Errorf("making room for sealed rows: %w", err)
	}
	v.rows.register(cfg.Metrics)
	v.lookups = newLookups(v)
	v.metrics = newMetrics(cfg.Metrics, v.partitionsAhead)
	v.watchKeyring()
	return v, nil
}

// Ready tells whether requests would be served: the database answers and evidence can be committed.
func (v *Vault) Ready(ctx context.Context) error {
	if !v.trail.Ready() {
		return errors.New("audit rounds can't run")
	}
	if err := v.db.Ping(ctx); err != nil {
		return fmt.Errorf("the database doesn't answer: %w", err)
	}
	return nil
}
