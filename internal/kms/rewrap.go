package kms

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// Stored is a wrapped data key as a row has it.
type Stored struct {
	Wrapped   []byte
	KeyID     string    // the master key that the row names
	WrappedAt time.Time // by the database's clock; zero where that isn't known, and then it is new enough
	Again     bool      // it is to be wrapped again, whatever is right with it
}

// Wrapping is what a stored key's wrapping is like.
type Wrapping uint8

// From the worst to be had on. What is behind Whole opens, and is to be wrapped again.
const (
	Whole     Wrapping = iota
	Lacking            // one of the two master keys that are configured doesn't wrap it
	Elsewhere          // it is under another master key than the one in use
	Stale              // it is under that one's former material, or is to be wrapped again because somebody asked
)

// reEncrypter is a keeper that can move a wrapped key to the master key that it wraps new ones under, as that is now.
type reEncrypter interface {
	ReEncrypt(ctx context.Context, wrapped []byte, keyID string, ec Context) (moved []byte, movedID string, err error)
}

// rotating is a keeper whose master key gets new material now and then.
type rotating interface {
	// learnRotation asks when that was last.
	learnRotation(ctx context.Context) error
	// isStale tells whether what was wrapped then may be under former material, as far as is known.
	isStale(wrappedAt time.Time) bool
}

// OfKey tells of an error that comes of one master key, or of the rights on it, so that another one may do.
func OfKey(err error) bool {
	var call *callError
	return errors.As(err, &call) && (call.class.isLoss() || call.class == ClassDenied)
}

// Prepare asks which keys the names of the master keys stand for, unless they are ARNs, so that Judge can tell. Errors are those of the
// keepers; the key that may be lost while the recovery key is in use is asked, too.
func (r *Recoverable) Prepare(ctx context.Context) error {
	if k, ok := r.used.(named); ok {
		if err := k.resolve(ctx); err != nil {
			return err
		}
	}
	if k, ok := r.other.(named); ok {
		return k.relearn(ctx)
	}
	return nil
}

// LearnRotations asks when KMS last gave the master keys new material. An error says why that can't be told; what is wrapped under former
// material is then taken for whole, as it opens all the same.
func (r *Recoverable) LearnRotations(ctx context.Context) error {
	var all []error
	for _, k := range []Keeper{r.used, r.other} {
		if k, ok := k.(rotating); ok {
			all = append(all, k.learnRotation(ctx))
		}
	}
	return errors.Join(all...)
}

// Judge tells what a stored key's wrapping is like. While it isn't known which key a name stands for (see Prepare), any other one counts.
func (r *Recoverable) Judge(s Stored) Wrapping {
	used, other := r.sides(s.Wrapped, s.KeyID)
	switch {
	case used.blob == nil, r.lacksOther(other):
		return Lacking
	case !isUnder(r.used, used.keyID):
		return Elsewhere
	case s.Again, isStale(r.used, s), isStale(r.other, s):
		return Stale
	}
	return Whole
}

// lacksOther tells whether the master key that isn't in use should wrap a key, and doesn't: another one that it was wrapped under before may be
// lost.
func (r *Recoverable) lacksOther(other wrapping) bool {
	return r.other != nil && (other.blob == nil || !isUnder(r.other, other.keyID))
}

func isUnder(k Keeper, keyID string) bool {
	if n, ok := k.(named); ok {
		same, known := n.isUnder(keyID)
		return same || !known
	}
	return keyID == k.KeyID()
}

func isStale(k Keeper, s Stored) bool {
	n, ok := k.(rotating)
	return ok && !s.WrappedAt.IsZero() && n.isStale(s.WrappedAt)
}

// Fill gives what is to be stored in the place of a key that isn't whole, and the master key that its row is to name: the wrapping that it lacks
// is added, in the place of one under another master key than is configured, and the wrappings that aren't under a master key as it is now
// are moved there, within KMS. All that there is to do is done at once, or nothing. Errors are those of both keepers, and of Decrypt.
func (r *Recoverable) Fill(ctx context.Context, s Stored, ec Context) (wrapped []byte, keyID string, err error) {
	used, other := r.sides(s.Wrapped, s.KeyID)
	if used.blob == nil {
		return nil, "", fault.Wrap(fault.Unavailable, ErrOneSided, "")
	}
	switch { // this first: should that key be away, the one in use isn't asked in vain
	case r.lacksOther(other):
		other, err = r.second(ctx, s, ec)
	case r.other != nil && (s.Again || isStale(r.other, s)):
		other, err = move(ctx, r.other, other, ec)
	}
	if err != nil {
		return nil, "", err
	}
	keyID = s.KeyID
	if s.Again || !isUnder(r.used, used.keyID) || isStale(r.used, s) {
		if used, err = move(ctx, r.used, used, ec); err != nil {
			return nil, "", err
		}
		keyID = used.keyID
	}
	if other.blob == nil {
		return used.blob, keyID, nil
	}
	return r.join(used, other).encode(), keyID, nil
}

// second wraps a stored key under the master key that isn't in use.
func (r *Recoverable) second(ctx context.Context, s Stored, ec Context) (wrapping, error) {
	key, err := r.Decrypt(ctx, s.Wrapped, s.KeyID, ec)
	if err != nil {
		return wrapping{}, err
	}
	defer key.Release()
	blob, id, err := r.other.WrapKey(ctx, key, ec)
	return wrapping{id, blob}, err
}

func move(ctx context.Context, k Keeper, from wrapping, ec Context) (wrapping, error) {
	mover, ok := k.(reEncrypter)
	if !ok {
		return wrapping{}, fault.Wrap(fault.Internal, fmt.Errorf("kms: a %T moves no keys", k), "")
	}
	blob, id, err := mover.ReEncrypt(ctx, from.blob, from.keyID, ec)
	return wrapping{id, blob}, err
}
