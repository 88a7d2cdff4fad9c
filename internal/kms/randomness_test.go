package kms

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// broken gives sources that give so many draws of a nonce's 24 bytes and then break, each in its way.
func broken(sound int) map[string]io.Reader {
	good := func() io.Reader { return bytes.NewReader(sequence(0, 24*sound)) }
	return map[string]io.Reader{
		"failing":  io.MultiReader(good(), iotest.ErrReader(errors.New("no randomness"))),
		"short":    io.MultiReader(good(), bytes.NewReader(sequence(0x80, 23))),
		"constant": io.MultiReader(good(), bytes.NewReader(bytes.Repeat([]byte{7}, 64))),
	}
}

func TestI4_NoKeyIsMadeOrWrappedWithBrokenRandomness(t *testing.T) {
	t.Parallel()
	ctx, ec := context.Background(), NewContext(Text("use", "test"))
	for sound := range 2 { // the nonce, the key
		for how, random := range broken(sound) {
			key, err := newLocal(t, sequence(1, 32), random).GenerateDataKey(ctx, ec)
			if fault.KindOf(err) != fault.Internal || !key.Plaintext.IsZero() || key.Wrapped != nil {
				t.Errorf("%s after %d draws: a data key was made: %v", how, sound, err)
			}
		}
	}
	for how, random := range broken(0) {
		wrapped, _, err := newLocal(t, sequence(1, 32), random).WrapKey(ctx, sensitive.Take(sequence(9, 32)), ec)
		if fault.KindOf(err) != fault.Internal || wrapped != nil {
			t.Errorf("%s: a key was wrapped: %v", how, err)
		}
	}
	for how, random := range broken(0) {
		if text, err := NewMasterKeyText(random); err == nil || text != nil {
			t.Errorf("%s: a master key was made", how)
		}
	}
}
