package integrity

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// sealedRoots gives roots their MACs under the last row root among them.
func sealedRoots(t *testing.T, keeper Keeper, roots []Root) []Root {
	t.Helper()
	k := open(t, keeper, roots, PurposeRow)
	out := append([]Root(nil), roots...)
	for i := range out {
		mac, keyID, err := k.MAC(out[i].Row())
		if err != nil {
			t.Fatal(err)
		}
		out[i].MAC, out[i].MACKeyID = mac, &keyID
	}
	return out
}

func TestI6_AKeyringFollowsOnlyForward(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	keeper := newKeeper(t, nil)
	first := newRoots(t, keeper)
	more, err := NewRootsFor(ctx, keeper, vaultA, nil, PurposeRow)
	if err != nil {
		t.Fatal(err)
	}
	original := sealedRoots(t, keeper, first)
	overlap := sealedRoots(t, keeper, append(append([]Root(nil), first...), more...))
	at := time.Unix(1, 0)
	retiredRoots := append(append([]Root(nil), first...), more...)
	for i := range retiredRoots {
		if retiredRoots[i].KeyID == first[0].KeyID {
			retiredRoots[i].RetiredAt = &at
		}
	}
	retired := sealedRoots(t, keeper, retiredRoots)
	swapped := sealedRoots(t, keeper, append(append([]Root(nil), more...), first...)) // the old one made the active one again

	k := open(t, keeper, original, PurposeRow, PurposeAudit)
	counting := &spy{Keeper: keeper}
	var stored []Root
	k.follower.keeper = counting
	k.follower.load = func(context.Context) ([]Root, error) { return stored, nil }
	row := Role{Name: "a row"}
	oldMAC, oldID, err := k.MAC(row)
	if err != nil {
		t.Fatal(err)
	}
	step := func(what string, roots []Root, wanted error) {
		t.Helper()
		stored = roots
		if err := k.look(ctx); !errors.Is(err, wanted) || (wanted == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", what, err, wanted)
		}
	}
	step("the new root", overlap, nil)
	if id, _ := k.ActiveKeyID(PurposeRow); id != more[0].KeyID {
		t.Error("the new root isn't the active one")
	}
	if err := k.Check(row, oldMAC, &oldID); err != nil {
		t.Errorf("what is under the old root: %v", err)
	}
	step("the old one active again", swapped, ErrBadKeyring)
	step("without the new one", original, ErrBadKeyring)
	forged := append([]Root(nil), overlap...)
	forged[1].CreatedAt = at
	step("an edited row", forged, ErrForged)
	selfMade := append([]Root(nil), overlap...)
	selfMade[0] = original[0] // under the old root, which vouches for none any more
	step("a key that the old root vouches for", selfMade, ErrForged)
	step("the old one retired", retired, nil)
	if err := k.Check(row, oldMAC, &oldID); !errors.Is(err, ErrRetired) {
		t.Errorf("what is under the retired root: %v", err)
	}
	step("the retired one back", overlap, ErrBadKeyring)
	if err := k.Check(row, oldMAC, &oldID); !errors.Is(err, ErrRetired) {
		t.Errorf("what is under the retired root after it was put back: %v", err)
	}
	// The new root once; and the retired one as often as somebody puts it back.
	if n := len(counting.decrypted); n != 2 {
		t.Errorf("%d roots were unwrapped", n)
	}
}

func TestKeyring_IsLookedAtNoMoreThanOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keeper := newKeeper(t, nil)
		roots := sealedRoots(t, keeper, newRoots(t, keeper))
		k := open(t, keeper, roots, PurposeRow)
		k.Follow(keeper, func(context.Context) ([]Root, error) { return roots, nil })
		began := time.Now()
		for range 5 {
			if err := k.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			k.RefreshSoon()
			k.RefreshSoon()
		}
		if took := time.Since(began); took < 4*time.Second {
			t.Errorf("five looks took %s", took)
		}
		k.Close()
		if err := k.Refresh(t.Context()); err == nil {
			t.Error("a keyring that was closed looks on")
		}
	})
}
