package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
)

// keyringEvery is about how often the stored keyring is looked at although no row gives cause.
const keyringEvery = 10 * time.Second

// errKeysBehind means that a row names a root that isn't held here: a new one, or one that nobody made. Before it is taken for
// damage the keyring is read again, outside any transaction, and the request starts over.
var errKeysBehind = errors.New("a row names a key that isn't held yet")

// refreshKeys has the keyring read again. What can't be read, or unwrapped, or doesn't verify tells nothing of any row: it is
// unavailable, not damage.
func (v *Vault) refreshKeys(ctx context.Context) error {
	if err := v.keys.Refresh(ctx); err != nil {
		return fault.Wrap(fault.Unavailable, fmt.Errorf("reading the keyring again: %w", err), "")
	}
	return nil
}

// noteKey has the keyring read again, soon, where a row names a root that was replaced: it may have been retired since.
func (v *Vault) noteKey(keyID *uuid.UUID) {
	if active, ok := v.keys.ActiveKeyID(integrity.PurposeRow); ok && keyID != nil && *keyID != active {
		v.keys.RefreshSoon()
	}
}

// watchKeyring tells of looks at the keyring, and of those that failed.
func (v *Vault) watchKeyring() {
	v.keys.OnFailure(func(err error) {
		if errors.Is(err, integrity.ErrForged) || errors.Is(err, integrity.ErrUnknownKey) || errors.Is(err, integrity.ErrRetired) ||
			errors.Is(err, integrity.ErrBadRoot) || errors.Is(err, integrity.ErrBadKeyring) {
			v.metrics.integrity.WithLabelValues(ActionKeyring).Inc()
			v.log.Error("integrity alarm: the keyring in the database doesn't verify: the one that is held stays in use", "error", err)
			return
		}
		v.log.Warn("the keyring could not be read again: the one that is held stays in use", "error", err)
	})
	if v.cfg.Metrics != nil {
		v.cfg.Metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "sealkeep", Subsystem: "vault", Name: "keyring_looks_total",
			Help: "How often the stored keyring was read again, for a key id that isn't held or one that was replaced.",
		}, func() float64 { return float64(v.keys.Looks()) }))
	}
}

// followKeyring looks at the keyring from time to time, so that a process that nobody asks anything learns of new roots, too.
func (v *Vault) followKeyring(ctx context.Context) {
	for pause(ctx, keyringEvery/2+rand.N(keyringEvery)) { //nolint:gosec // jitter, not a secret
		v.keys.RefreshSoon()
	}
}
