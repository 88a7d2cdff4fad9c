package kms

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// away is a keeper whose KMS can be made to be away.
type away struct {
	*Local
	gone  bool
	asked int
}

var errAway = errors.New("it is away")

func (a *away) fails() error {
	a.asked++
	if a.gone {
		return fault.Wrap(fault.Unavailable, errAway, "")
	}
	return nil
}

func (a *away) GenerateDataKey(ctx context.Context, ec Context) (DataKey, error) {
	if err := a.fails(); err != nil {
		return DataKey{}, err
	}
	return a.Local.GenerateDataKey(ctx, ec)
}

func (a *away) WrapKey(ctx context.Context, key sensitive.Bytes, ec Context) ([]byte, string, error) {
	if err := a.fails(); err != nil {
		return nil, "", err
	}
	return a.Local.WrapKey(ctx, key, ec)
}

func (a *away) Decrypt(ctx context.Context, wrapped []byte, keyID string, ec Context) (sensitive.Bytes, error) {
	if err := a.fails(); err != nil {
		return sensitive.Bytes{}, err
	}
	return a.Local.Decrypt(ctx, wrapped, keyID, ec)
}

// twoKeys gives two master keys, and what makes a keeper over them.
func twoKeys(t *testing.T) (primary, recovery *away, keeper func(useRecovery bool) *Recoverable) {
	t.Helper()
	primary, recovery = &away{Local: newLocal(t, sequence(0, DataKeySize), nil)}, &away{Local: newLocal(t, sequence(1, DataKeySize), nil)}
	return primary, recovery, func(useRecovery bool) *Recoverable {
		r, err := NewRecoverable(primary, recovery, RecoveryConfig{UseRecovery: useRecovery})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

// opens tells whether a keeper unwraps a data key to what it is.
func opens(t *testing.T, k Keeper, key DataKey) error {
	t.Helper()
	opened, err := k.Decrypt(context.Background(), key.Wrapped, key.KeyID, contextOf(secretContext()))
	if err != nil {
		return err
	}
	defer opened.Release()
	if !sensitive.Equal(opened, key.Plaintext) {
		t.Error("it unwrapped to another key")
	}
	return nil
}

func whole(r *Recoverable, wrapped []byte, keyID string) bool {
	return r.Judge(Stored{Wrapped: wrapped, KeyID: keyID}) == Whole
}

func fill(r *Recoverable, key DataKey) ([]byte, error) {
	wrapped, _, err := r.Fill(context.Background(), Stored{Wrapped: key.Wrapped, KeyID: key.KeyID}, contextOf(secretContext()))
	return wrapped, err
}

func TestRecovery_EitherMasterKeyAloneOpensWhatBothWrapped(t *testing.T) {
	t.Parallel()
	primary, recovery, keeper := twoKeys(t)
	for _, useRecovery := range []bool{false, true} {
		primary.gone, recovery.gone = false, false
		key, err := keeper(useRecovery).GenerateDataKey(context.Background(), contextOf(secretContext()))
		if err != nil {
			t.Fatal(err)
		}
		if !whole(keeper(false), key.Wrapped, key.KeyID) || !whole(keeper(true), key.Wrapped, key.KeyID) {
			t.Error("a key that both wrapped isn't whole")
		}
		recovery.gone = true
		asked := recovery.asked
		if err := opens(t, keeper(false), key); err != nil || recovery.asked != asked {
			t.Errorf("with the recovery key lost: %v; it was asked %d times", err, recovery.asked-asked)
		}
		primary.gone, recovery.gone = true, false
		asked = primary.asked
		if err := opens(t, keeper(true), key); err != nil || primary.asked != asked {
			t.Errorf("with the primary key lost: %v; it was asked %d times", err, primary.asked-asked)
		}
		if err := opens(t, keeper(false), key); !errors.Is(err, errAway) {
			t.Errorf("the recovery key opened it without being told to: %v", err)
		}
		key.Plaintext.Release()
	}
}

func TestRecovery_WhatOneKeyMissedIsFilledLater(t *testing.T) {
	t.Parallel()
	primary, recovery, keeper := twoKeys(t)
	for _, useRecovery := range []bool{false, true} {
		k, other := keeper(useRecovery), recovery
		if useRecovery {
			other = primary
		}
		other.gone = true
		key, err := k.GenerateDataKey(context.Background(), contextOf(secretContext()))
		if err != nil {
			t.Fatalf("with one key away nothing is written: %v", err)
		}
		defer key.Plaintext.Release()
		if whole(k, key.Wrapped, key.KeyID) {
			t.Error("what one key wraps is taken for whole")
		}
		if _, err := fill(k, key); !errors.Is(err, errAway) {
			t.Errorf("filled while the key was away: %v", err)
		}
		other.gone = false
		if err := opens(t, keeper(!useRecovery), key); !errors.Is(err, ErrOneSided) || fault.KindOf(err) != fault.Unavailable {
			t.Errorf("the key that doesn't wrap it: %v", err)
		}
		filled, err := fill(k, key)
		if err != nil || !whole(k, filled, key.KeyID) {
			t.Fatalf("filled, it isn't whole: %v", err)
		}
		key.Wrapped = filled
		for _, use := range []bool{false, true} {
			if err := opens(t, keeper(use), key); err != nil {
				t.Errorf("filled, using recovery %v: %v", use, err)
			}
		}
	}
}

func TestRecovery_WhatWasWrappedBeforeThereWasARecoveryKey(t *testing.T) {
	t.Parallel()
	primary, _, keeper := twoKeys(t)
	key := generate(t, primary.Local, secretContext())
	if err := opens(t, keeper(false), key); err != nil {
		t.Errorf("the primary key: %v", err)
	}
	if err := opens(t, keeper(true), key); !errors.Is(err, ErrOneSided) {
		t.Errorf("the recovery key: %v", err)
	}
	filled, err := fill(keeper(false), key)
	if err != nil {
		t.Fatal(err)
	}
	key.Wrapped = filled
	if err := opens(t, keeper(true), key); err != nil {
		t.Errorf("filled, the recovery key: %v", err)
	}

	t.Run("and after it was taken away again", func(t *testing.T) {
		alone, err := NewRecoverable(primary, nil, RecoveryConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if err := opens(t, alone, key); err != nil || !whole(alone, key.Wrapped, key.KeyID) || alone.WrapsTwice() {
			t.Errorf("the primary key alone: %v", err)
		}
	})
	t.Run("and under another recovery key", func(t *testing.T) {
		another := newLocal(t, sequence(2, DataKeySize), nil)
		k, err := NewRecoverable(primary, another, RecoveryConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if whole(k, key.Wrapped, key.KeyID) {
			t.Error("what another key wraps is taken for whole")
		}
	})
	if _, err := NewRecoverable(primary, nil, RecoveryConfig{UseRecovery: true}); err == nil {
		t.Error("a recovery key that there isn't is used")
	}
}

func TestI5_BothWrappingsAreBoundToTheirPlace(t *testing.T) {
	t.Parallel()
	_, _, keeper := twoKeys(t)
	key, err := keeper(false).GenerateDataKey(context.Background(), contextOf(secretContext()))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Plaintext.Release()
	elsewhere := NewContext(Text("use", "secret"), Text("name", "elsewhere"))
	for _, use := range []bool{false, true} {
		if _, err := keeper(use).Decrypt(context.Background(), key.Wrapped, key.KeyID, elsewhere); !errors.Is(err, ErrInvalidCiphertext) {
			t.Errorf("in another place, using recovery %v: %v", use, err)
		}
	}
}

// One encoding, and nothing else, is two wrappings.
func TestWrappedTwice_HasOneEncoding(t *testing.T) {
	t.Parallel()
	whole := twice{wrapping{"a", []byte{1, 2}}, wrapping{"b", []byte{3}}}
	const want = "7365616c6b6565702f777261707065642d74776963652f7631" + "00" +
		"02" + "00000001" + "61" + "01" + "00000002" + "0102" + "02" + "00000001" + "62" + "01" + "00000001" + "03"
	if got := hex.EncodeToString(whole.encode()); got != want {
		t.Errorf("encoded as\n%s, not\n%s", got, want)
	}
	for _, w := range []twice{whole, {primary: whole.primary}, {recovery: whole.recovery}, {}} {
		encoded := w.encode()
		got, ok := decodeTwice(encoded)
		if !ok || !bytes.Equal(got.encode(), encoded) {
			t.Errorf("%+v came back as %+v", w, got)
		}
		for n := range len(encoded) {
			if _, ok := decodeTwice(encoded[:n]); ok {
				t.Errorf("cut to %d bytes it is taken", n)
			}
		}
		if _, ok := decodeTwice(append(encoded, 0)); ok {
			t.Error("with a byte more it is taken")
		}
	}
	for _, wrong := range []string{
		want[:52] + "01" + want[54:],                                     // an id of another type
		want[:52] + "02ffffffff" + want[62:],                             // a length beyond the end
		want[:52] + "0000000001" + want[62:],                             // NULL with a value
		want[:52] + "0000000000" + want[64:],                             // a wrapping without an id
		"7365616c6b6565702f777261707065642d74776963652f7632" + want[50:], // another version of the format
	} {
		raw, err := hex.DecodeString(wrong)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := decodeTwice(raw); ok {
			t.Errorf("%s is taken", wrong)
		}
	}
}

func FuzzDecodeTwice(f *testing.F) {
	f.Add(twice{wrapping{"a", []byte{1, 2}}, wrapping{"b", []byte{3}}}.encode())
	f.Add(twice{primary: wrapping{"a", []byte{1}}}.encode())
	f.Add([]byte("sealkeep/wrapped-twice/v1\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if w, ok := decodeTwice(b); ok && !bytes.Equal(w.encode(), b) {
			t.Errorf("%x has another encoding", b)
		}
	})
}
