package kms

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// ErrOneSided says that a wrapped key can't be opened by the master key in use, because the other one alone wraps it.
var ErrOneSided = errors.New("kms: only the other one of the primary and the recovery key wraps this data key")

// ErrUseRecovery says that the primary key may be lost, and what that is the remedy of is there.
var ErrUseRecovery = errors.New("if that key is lost, set VAULT_KMS_USE_RECOVERY=true: the recovery key then opens what is stored")

// named is a keeper whose master key has other names than the one that it was configured by.
type named interface {
	// isUnder tells whether what is stored as being under a key is under the one that the keeper wraps under, and whether that is known.
	isUnder(keyID string) (same, known bool)
	// resolve makes it known, of a key that makes data keys, and relearn, of one that only wraps.
	resolve(ctx context.Context) error
	relearn(ctx context.Context) error
}

// recoveryTimeout bounds what a new data key waits for its second wrapping, in all attempts.
const recoveryTimeout = 2 * time.Second

// RecoveryConfig tunes a Recoverable.
type RecoveryConfig struct {
	// UseRecovery opens by the recovery key, and by it alone.
	UseRecovery bool
	Log         *slog.Logger          // nil: nothing is logged
	Metrics     prometheus.Registerer // nil: metrics are kept but not registered
}

// Recoverable is a keeper that wraps every data key under two master keys, of two Regions or accounts, so that the loss of one
// loses nothing. One of them is in use: it makes and opens data keys. The other one only wraps, and if it is away a new key
// does without, which Judge tells and Fill mends later.
//
// Both wrappings, each with its master key's id, are kept in the place of the one, so that whatever binds a row's wrapped key
// binds both.
type Recoverable struct {
	used, other Keeper
	recovery    bool // the used one is the recovery key
	log         *slog.Logger
	lacking     prometheus.Counter
}

// NewRecoverable returns a keeper over two others, which are its own to close from then on. Without a recovery keeper (nil) it
// only opens what was wrapped twice before.
func NewRecoverable(primary, recovery Keeper, cfg RecoveryConfig) (*Recoverable, error) {
	if recovery == nil && cfg.UseRecovery {
		return nil, errors.New("kms: there is no recovery key to use")
	}
	r := &Recoverable{used: primary, other: recovery, recovery: cfg.UseRecovery, log: cfg.Log}
	if cfg.UseRecovery {
		r.used, r.other = recovery, primary
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.lacking = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "sealkeep", Subsystem: "kms", Name: "second_wrappings_missed_total",
		Help: "New data keys that were wrapped under one master key alone, because the other one was away.",
	})
	if cfg.Metrics != nil && r.other != nil {
		cfg.Metrics.MustRegister(r.lacking)
	}
	return r, nil
}

// WrapsTwice tells whether there are two master keys.
func (r *Recoverable) WrapsTwice() bool { return r.other != nil }

// KeyID is that of the master key in use.
func (r *Recoverable) KeyID() string { return r.used.KeyID() }

// Status is that of the master key in use.
func (r *Recoverable) Status() Status { return r.used.Status() }

// Close closes both keepers.
func (r *Recoverable) Close() {
	r.used.Close()
	if r.other != nil {
		r.other.Close()
	}
}

// GenerateDataKey returns a fresh data key of the keeper in use, wrapped under both master keys if the other one can be had.
// Errors are those of the keeper in use.
func (r *Recoverable) GenerateDataKey(ctx context.Context, ec Context) (DataKey, error) {
	key, err := r.used.GenerateDataKey(ctx, ec)
	if err != nil || r.other == nil {
		return key, err
	}
	w := r.wrap(ctx, key.Plaintext, wrapping{key.KeyID, key.Wrapped}, ec)
	key.Wrapped = w.encode()
	return key, nil
}

// WrapKey wraps a data key that exists already as GenerateDataKey wraps a new one.
func (r *Recoverable) WrapKey(ctx context.Context, key sensitive.Bytes, ec Context) (wrapped []byte, keyID string, err error) {
	wrapped, keyID, err = r.used.WrapKey(ctx, key, ec)
	if err != nil || r.other == nil {
		return wrapped, keyID, err
	}
	w := r.wrap(ctx, key, wrapping{keyID, wrapped}, ec)
	return w.encode(), keyID, nil
}

// wrap joins the wrapping of the keeper in use with one of the other's, if it gives one in time.
func (r *Recoverable) wrap(ctx context.Context, key sensitive.Bytes, used wrapping, ec Context) twice {
	ctx, cancel := context.WithTimeout(ctx, recoveryTimeout)
	defer cancel()
	var second wrapping
	blob, keyID, err := r.other.WrapKey(ctx, key, ec)
	if err != nil {
		r.lacking.Inc()
		r.log.Warn("a data key was wrapped under one master key alone", "lacking", r.lacks(), "error", err)
	} else {
		second = wrapping{keyID, blob}
	}
	return r.join(used, second)
}

// lacks names the master key that isn't in use.
func (r *Recoverable) lacks() string {
	if r.recovery {
		return "primary"
	}
	return "recovery"
}

func (r *Recoverable) join(used, other wrapping) twice {
	if r.recovery {
		return twice{primary: other, recovery: used}
	}
	return twice{primary: used, recovery: other}
}

// sides gives the wrapping that the keeper in use opens, and the other one.
func (r *Recoverable) sides(wrapped []byte, keyID string) (used, other wrapping) {
	w, ok := decodeTwice(wrapped)
	if !ok {
		w.primary = wrapping{keyID, wrapped} // it was wrapped once, before there was a recovery key
	}
	if r.recovery {
		return w.recovery, w.primary
	}
	return w.primary, w.recovery
}

// Decrypt unwraps a data key, which the caller releases, by the keeper in use. What that one didn't wrap is an error of kind
// Unavailable that wraps [ErrOneSided]; others are the keeper's.
func (r *Recoverable) Decrypt(ctx context.Context, wrapped []byte, keyID string, ec Context) (sensitive.Bytes, error) {
	used, other := r.sides(wrapped, keyID)
	if used.blob == nil {
		return sensitive.Bytes{}, fault.Wrap(fault.Unavailable, ErrOneSided, "")
	}
	key, err := r.used.Decrypt(ctx, used.blob, used.keyID, ec)
	if err != nil && other.blob != nil {
		err = r.Advise(err)
	}
	return key, err
}

// Advise adds [ErrUseRecovery] to an error that may mean that the primary key is lost, where there is a recovery key and it isn't in use.
func (r *Recoverable) Advise(err error) error {
	var call *callError
	if r.other == nil || r.recovery || !errors.As(err, &call) || !call.class.isLoss() {
		return err
	}
	return fmt.Errorf("%w (%w)", err, ErrUseRecovery)
}

// wrapping is a data key under one master key; zero is none.
type wrapping struct {
	keyID string
	blob  []byte
}

// twice is a data key under two master keys, one of which may be missing.
type twice struct{ primary, recovery wrapping }

// encode gives the canonical encoding of both: docs/formats.md.
func (w twice) encode() []byte {
	dst := canon.Start(make([]byte, 0, 128+len(w.primary.blob)+len(w.recovery.blob)), canon.LabelWrappedTwice)
	for _, one := range []wrapping{w.primary, w.recovery} {
		if one.blob == nil {
			dst = canon.Null(canon.Null(dst))
			continue
		}
		dst = canon.Bytes(canon.Text(dst, one.keyID), one.blob)
	}
	return dst
}

// WrappedUnder gives the ids of the master keys that a stored key is wrapped under; empty where there is no wrapping. keyID is
// what its row names.
func WrappedUnder(wrapped []byte, keyID string) (primary, recovery string) {
	if w, ok := decodeTwice(wrapped); ok {
		return w.primary.keyID, w.recovery.keyID
	}
	return keyID, ""
}

// decodeTwice reads what encode wrote; anything else is what one master key wrapped.
func decodeTwice(b []byte) (w twice, ok bool) {
	rest, ok := bytes.CutPrefix(b, canon.Start(nil, canon.LabelWrappedTwice))
	if !ok {
		return w, false
	}
	var fields [4][]byte
	for i := range fields {
		if len(rest) < 5 || int64(len(rest)-5) < int64(binary.BigEndian.Uint32(rest[1:])) {
			return twice{}, false
		}
		n := 5 + int(binary.BigEndian.Uint32(rest[1:]))
		if rest[0] != 0 {
			fields[i] = rest[5:n:n]
		}
		rest = rest[n:]
	}
	w.primary = wrapping{string(fields[0]), fields[1]}
	w.recovery = wrapping{string(fields[2]), fields[3]}
	// There is one encoding of each.
	if !bytes.Equal(w.encode(), b) {
		return twice{}, false
	}
	return w, true
}
