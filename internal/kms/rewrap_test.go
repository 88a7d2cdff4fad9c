package kms

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// renewed is a keeper whose master key replaced another one, or got new material at a time.
type renewed struct {
	*away
	former  *Local
	rotated time.Time
	moves   int
}

func (r *renewed) Decrypt(ctx context.Context, wrapped []byte, keyID string, ec Context) (sensitive.Bytes, error) {
	if r.former != nil && keyID == r.former.KeyID() {
		return r.former.Decrypt(ctx, wrapped, keyID, ec)
	}
	return r.away.Decrypt(ctx, wrapped, keyID, ec)
}

func (r *renewed) ReEncrypt(ctx context.Context, wrapped []byte, keyID string, ec Context) ([]byte, string, error) {
	r.moves++
	key, err := r.Decrypt(ctx, wrapped, keyID, ec)
	if err != nil {
		return nil, "", err
	}
	defer key.Release()
	return r.WrapKey(ctx, key, ec)
}

func (r *renewed) learnRotation(context.Context) error { return nil }

func (r *renewed) isStale(at time.Time) bool { return at.Before(r.rotated) }

// Whatever is wrong with a wrapping is found, is put right in one go, and once.
func TestRewrap_PutsRightWhatItFinds(t *testing.T) {
	t.Parallel()
	ctx, ec := context.Background(), contextOf(secretContext())
	then := time.Unix(1_000_000, 0)
	former := newLocal(t, sequence(3, DataKeySize), nil)
	setup := func(useRecovery bool) (r *Recoverable, used, other *renewed) {
		primary := &renewed{away: &away{Local: newLocal(t, sequence(0, DataKeySize), nil)}, former: former}
		recovery := &renewed{away: &away{Local: newLocal(t, sequence(1, DataKeySize), nil)}}
		r, err := NewRecoverable(primary, recovery, RecoveryConfig{UseRecovery: useRecovery})
		if err != nil {
			t.Fatal(err)
		}
		if useRecovery {
			return r, recovery, primary
		}
		return r, primary, recovery
	}
	for name, one := range map[string]struct {
		useRecovery, before, again bool // before: only the former key wraps it
		usedRotated, otherRotated  bool
		want                       Wrapping
		usedMoves, otherMoves      int
	}{
		"nothing":                              {want: Whole},
		"the first key has new material":       {usedRotated: true, want: Stale, usedMoves: 1},
		"the other key has new material":       {otherRotated: true, want: Stale, otherMoves: 1},
		"both have":                            {usedRotated: true, otherRotated: true, want: Stale, usedMoves: 1, otherMoves: 1},
		"somebody asked":                       {again: true, want: Stale, usedMoves: 1, otherMoves: 1},
		"somebody asked, on the recovery key":  {again: true, useRecovery: true, want: Stale, usedMoves: 1, otherMoves: 1},
		"it is under the former key, and once": {before: true, want: Lacking, usedMoves: 1},
	} {
		r, used, other := setup(one.useRecovery)
		key, err := r.GenerateDataKey(ctx, ec)
		if one.before {
			key.Plaintext.Release()
			key, err = former.GenerateDataKey(ctx, ec)
		}
		if err != nil {
			t.Fatal(err)
		}
		if one.usedRotated {
			used.rotated = then.Add(time.Second)
		}
		if one.otherRotated {
			other.rotated = then.Add(time.Second)
		}
		stored := Stored{Wrapped: key.Wrapped, KeyID: key.KeyID, WrappedAt: then, Again: one.again}
		if got := r.Judge(stored); got != one.want {
			t.Errorf("%s: judged %d, want %d", name, got, one.want)
		}
		if one.want == Whole {
			continue
		}
		if stored.WrappedAt = (time.Time{}); !one.again && !one.before && r.Judge(stored) != Whole {
			t.Errorf("%s: what was wrapped nobody knows when is taken for old", name)
		}
		stored.WrappedAt = then
		wrapped, keyID, err := r.Fill(ctx, stored, ec)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if used.moves != one.usedMoves || other.moves != one.otherMoves {
			t.Errorf("%s: moved %d and %d times, want %d and %d", name, used.moves, other.moves, one.usedMoves, one.otherMoves)
		}
		if got := r.Judge(Stored{Wrapped: wrapped, KeyID: keyID, WrappedAt: then.Add(time.Minute)}); got != Whole {
			t.Errorf("%s: afterwards judged %d", name, got)
		}
		if one.usedMoves > 0 && keyID != used.KeyID() {
			t.Errorf("%s: the row is to name %s", name, keyID)
		}
		for _, use := range []bool{false, true} {
			k, _, _ := setup(use)
			if err := opens(t, k, DataKey{Plaintext: key.Plaintext, Wrapped: wrapped, KeyID: keyID}); err != nil {
				t.Errorf("%s: using recovery %v: %v", name, use, err)
			}
		}
		key.Plaintext.Release()
	}
}

// A wrapping that is left behind would be taken for as new as the other: nothing is stored then.
func TestRewrap_IsNothingIfOneKeyIsAway(t *testing.T) {
	t.Parallel()
	primary := &renewed{away: &away{Local: newLocal(t, sequence(0, DataKeySize), nil)}}
	recovery := &renewed{away: &away{Local: newLocal(t, sequence(1, DataKeySize), nil)}}
	r, err := NewRecoverable(primary, recovery, RecoveryConfig{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := r.GenerateDataKey(context.Background(), contextOf(secretContext()))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Plaintext.Release()
	recovery.gone = true
	again := Stored{Wrapped: key.Wrapped, KeyID: key.KeyID, Again: true}
	wrapped, _, err := r.Fill(context.Background(), again, contextOf(secretContext()))
	if !errors.Is(err, errAway) || wrapped != nil || primary.moves != 0 {
		t.Errorf("%v; the key in use was asked %d times", err, primary.moves)
	}
}

func TestLocal_WrapsAgainInItsPlaceAlone(t *testing.T) {
	t.Parallel()
	l := newLocal(t, sequence(0, DataKeySize), nil)
	key := generate(t, l, secretContext())
	wrapped, keyID, err := l.ReEncrypt(context.Background(), key.Wrapped, key.KeyID, contextOf(secretContext()))
	if err != nil || string(wrapped) == string(key.Wrapped) {
		t.Fatalf("the same wrapping again, or none: %v", err)
	}
	if err := opens(t, l, DataKey{Plaintext: key.Plaintext, Wrapped: wrapped, KeyID: keyID}); err != nil {
		t.Error(err)
	}
	elsewhere := NewContext(Text("use", "secret"), Text("name", "elsewhere"))
	if _, _, err := l.ReEncrypt(context.Background(), key.Wrapped, key.KeyID, elsewhere); !errors.Is(err, ErrInvalidCiphertext) || fault.KindOf(err) != fault.Internal {
		t.Errorf("in another place: %v", err)
	}
}
