package integrity

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

var (
	vaultA = uuid.MustParse("a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf")
	vaultB = uuid.MustParse("b0b1b2b3-b4b5-b6b7-b8b9-babbbcbdbebf")
)

// sequence returns n bytes that count up from first.
func sequence(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// newKeeper returns a local keeper that hands out random in place of randomness; nil is the real thing.
func newKeeper(tb testing.TB, random io.Reader) *kms.Local {
	tb.Helper()
	keeper, err := kms.NewLocal(sensitive.Take(sequence(0xe0, 32)), random)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(keeper.Close)
	return keeper
}

func newRoots(tb testing.TB, keeper Keeper) []Root {
	tb.Helper()
	roots, err := NewRoots(context.Background(), keeper, vaultA, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return roots
}

func open(tb testing.TB, keeper Keeper, roots []Root, purposes ...Purpose) *Keyring {
	tb.Helper()
	k, err := OpenKeyring(context.Background(), keeper, vaultA, roots, purposes...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.Close)
	return k
}

// spy is a keeper that notes the contexts it is asked for and can be made to fail.
type spy struct {
	Keeper
	generated, decrypted []map[string]string
	root                 func(sensitive.Bytes) sensitive.Bytes
	err                  error
}

func (s *spy) GenerateDataKey(ctx context.Context, ec kms.Context) (kms.DataKey, error) {
	s.generated = append(s.generated, ec.Map())
	if s.err != nil {
		return kms.DataKey{}, s.err
	}
	key, err := s.Keeper.GenerateDataKey(ctx, ec)
	if s.root != nil {
		key.Plaintext = s.root(key.Plaintext)
	}
	return key, err
}

func (s *spy) Decrypt(ctx context.Context, wrapped []byte, keyID string, ec kms.Context) (sensitive.Bytes, error) {
	s.decrypted = append(s.decrypted, ec.Map())
	if s.err != nil {
		return sensitive.Bytes{}, s.err
	}
	key, err := s.Keeper.Decrypt(ctx, wrapped, keyID, ec)
	if s.root != nil {
		key = s.root(key)
	}
	return key, err
}

func TestNewRoots_OneForEachPurpose(t *testing.T) {
	t.Parallel()
	keeper := &spy{Keeper: newKeeper(t, nil)}
	roots := newRoots(t, keeper)
	if want := []Purpose{"row", "audit", "idempotency", "checkpoint"}; !slices.Equal(Purposes(), want) {
		t.Fatalf("purposes %v, want %v", Purposes(), want)
	}
	ids, wrapped := map[uuid.UUID]bool{}, map[string]bool{}
	for i, p := range Purposes() {
		r := roots[i]
		if r.Purpose != p || !strings.HasPrefix(r.KMSKeyID, "local:") || r.KeyID.Version() != 4 {
			t.Errorf("root %d is %+v", i, r)
		}
		if isCheckpoint := p == PurposeCheckpoint; isCheckpoint != (len(r.PublicKey) == ed25519.PublicKeySize) {
			t.Errorf("the %s root has a public key of %d bytes", p, len(r.PublicKey))
		}
		want := map[string]string{"use": "integrity", "purpose": string(p), "key_id": r.KeyID.String(), "vault_id": vaultA.String()}
		if !maps.Equal(keeper.generated[i], want) {
			t.Errorf("the %s root is bound to %v, want %v", p, keeper.generated[i], want)
		}
		ids[r.KeyID], wrapped[string(r.Wrapped)] = true, true
	}
	if len(roots) != 4 || len(ids) != 4 || len(wrapped) != 4 {
		t.Errorf("%d roots with %d ids", len(roots), len(ids))
	}
}

func TestNewRoots_FailuresLeaveNothing(t *testing.T) {
	t.Parallel()
	down := fault.New(fault.Unavailable, "")
	short := func(key sensitive.Bytes) sensitive.Bytes { return sensitive.Take(key.Reveal()[:31]) }
	for name, c := range map[string]struct {
		keeper Keeper
		random io.Reader
		kind   fault.Kind
	}{
		"the keeper is down":               {&spy{Keeper: newKeeper(t, nil), err: down}, nil, fault.Unavailable},
		"the keeper gives a short root":    {&spy{Keeper: newKeeper(t, nil), root: short}, nil, fault.Internal},
		"no randomness for ids":            {newKeeper(t, nil), iotest.ErrReader(io.ErrUnexpectedEOF), fault.Internal},
		"randomness ends at the third id":  {newKeeper(t, nil), bytes.NewReader(sequence(0, 47)), fault.Internal},
		"the keeper's randomness runs out": {newKeeper(t, bytes.NewReader(sequence(0, 3*56))), nil, fault.Internal},
	} {
		roots, err := NewRoots(context.Background(), c.keeper, vaultA, c.random)
		if err == nil || roots != nil || fault.KindOf(err) != c.kind {
			t.Errorf("%s: %d roots, %v", name, len(roots), err)
		}
	}
}

func TestOpenKeyring_UnwrapsOnlyWhatItIsAskedFor(t *testing.T) {
	t.Parallel()
	keeper := &spy{Keeper: newKeeper(t, nil)}
	roots := newRoots(t, keeper)
	k := open(t, keeper, roots, PurposeAudit, PurposeRow, PurposeAudit)
	if len(keeper.decrypted) != 2 {
		t.Fatalf("%d roots were unwrapped, want 2", len(keeper.decrypted))
	}
	for i, p := range Purposes() {
		id, ok := k.ActiveKeyID(p)
		if want := p == PurposeAudit || p == PurposeRow; ok != want || (want && id != roots[i].KeyID) {
			t.Errorf("active root of %s: %s, %t", p, id, ok)
		}
	}
	if _, err := k.StreamKey(roots[0].KeyID, uuid.New()); !errors.Is(err, ErrNoRoot) {
		t.Errorf("a stream key came from the row root: %v", err)
	}
	if _, err := k.StreamKey(uuid.New(), uuid.New()); !errors.Is(err, ErrNoRoot) || fault.KindOf(err) != fault.Internal {
		t.Errorf("a stream key came from no root: %v", err)
	}
}

func TestOpenKeyring_LastRootIsActiveAndEarlierOnesStillWork(t *testing.T) {
	t.Parallel()
	keeper := newKeeper(t, nil)
	first, second := newRoots(t, keeper)[1], newRoots(t, keeper)[1]
	k := open(t, keeper, []Root{first, second}, PurposeAudit)
	if id, _ := k.ActiveKeyID(PurposeAudit); id != second.KeyID {
		t.Error("the last root is not the active one")
	}
	stream := uuid.New()
	if mac(t, k, first.KeyID, stream, "m") == mac(t, k, second.KeyID, stream, "m") {
		t.Error("two roots give one stream key")
	}
}

func TestI4_OpenKeyringFailsWhole(t *testing.T) {
	t.Parallel()
	keeper := newKeeper(t, nil)
	roots := newRoots(t, keeper)
	short := func(key sensitive.Bytes) sensitive.Bytes { return sensitive.Take(key.Reveal()[:31]) }
	other, err := kms.NewLocal(sensitive.Take(sequence(1, 32)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	damaged := slices.Clone(roots)
	damaged[1].Wrapped = bytes.Clone(damaged[1].Wrapped)
	damaged[1].Wrapped[30] ^= 1
	for name, c := range map[string]struct {
		keeper   Keeper
		roots    []Root
		purposes []Purpose
		want     error
	}{
		"a purpose without a root":   {keeper, roots[:1], []Purpose{PurposeRow, PurposeAudit}, ErrNoRoot},
		"a purpose that is not one":  {keeper, roots, []Purpose{"secrets"}, ErrNoRoot},
		"no roots":                   {keeper, nil, []Purpose{PurposeAudit}, ErrNoRoot},
		"one root twice":             {keeper, append(slices.Clone(roots), roots[1]), []Purpose{PurposeAudit}, ErrBadRoot},
		"the keeper is down":         {&spy{Keeper: keeper, err: fault.Wrap(fault.Unavailable, io.EOF, "")}, roots, []Purpose{PurposeAudit}, io.EOF},
		"a root of the wrong size":   {&spy{Keeper: keeper, root: short}, roots, []Purpose{PurposeAudit}, nil},
		"another master key":         {other, roots, []Purpose{PurposeAudit}, kms.ErrUnknownKey},
		"a damaged root among sound": {keeper, damaged, Purposes(), kms.ErrInvalidCiphertext},
	} {
		k, err := OpenKeyring(context.Background(), c.keeper, vaultA, c.roots, c.purposes...)
		if err == nil || k != nil || (c.want != nil && !errors.Is(err, c.want)) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if down := errors.Is(err, io.EOF); down != (fault.KindOf(err) == fault.Unavailable) {
			t.Errorf("%s: kind %s", name, fault.KindOf(err))
		}
	}
}

func TestI6_RootServesOnlyInItsOwnPlace(t *testing.T) {
	t.Parallel()
	keeper := newKeeper(t, nil)
	roots := newRoots(t, keeper)
	refuse := func(name string, vault uuid.UUID, root Root, want error) {
		if _, err := OpenKeyring(context.Background(), keeper, vault, []Root{root}, root.Purpose); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	for i, root := range roots {
		refuse("in another vault", vaultB, root, kms.ErrInvalidCiphertext)

		edited := root
		edited.KeyID = uuid.New()
		refuse("under another id", vaultA, edited, kms.ErrInvalidCiphertext)

		edited = root
		edited.Purpose = Purposes()[(i+1)%len(roots)]
		refuse("for another purpose", vaultA, edited, kms.ErrInvalidCiphertext)

		edited = root
		edited.Wrapped = roots[(i+1)%len(roots)].Wrapped
		refuse("with another's key", vaultA, edited, kms.ErrInvalidCiphertext)
	}

	// A DEK, which the same keeper wraps, is no root.
	dek, err := keeper.GenerateDataKey(context.Background(), kms.NewContext(kms.Text("use", "secret"), kms.Text("name", "x")))
	if err != nil {
		t.Fatal(err)
	}
	edited := roots[1]
	edited.Wrapped = dek.Wrapped
	refuse("with a DEK", vaultA, edited, kms.ErrInvalidCiphertext)

	// A public key that was put in the place of the log's is refused by whoever can tell.
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range [][]byte{public, nil, roots[3].PublicKey[:31]} {
		edited = roots[3]
		edited.PublicKey = key
		refuse("with another public key", vaultA, edited, ErrBadRoot)
	}
	open(t, keeper, roots, Purposes()...)
}

func TestKeyring_Close(t *testing.T) {
	t.Parallel()
	keeper := newKeeper(t, nil)
	roots := newRoots(t, keeper)
	k := open(t, keeper, roots, Purposes()...)
	stream := uuid.New()
	key, err := k.StreamKey(roots[1].KeyID, stream)
	if err != nil {
		t.Fatal(err)
	}
	before := key.MAC([]byte("m"))
	held := make([][]byte, 0, len(roots))
	for _, root := range k.roots {
		held = append(held, root.key.Reveal())
	}
	var wg sync.WaitGroup
	for range 4 { // what is under way ends whole, or finds no root
		wg.Go(func() {
			if s, err := k.StreamKey(roots[1].KeyID, stream); err == nil && s.MAC([]byte("m")) != before {
				t.Error("a stream key from a keyring that is closing is another one")
			}
		})
	}
	k.Close()
	k.Close()
	wg.Wait()
	for _, root := range held {
		if !bytes.Equal(root, make([]byte, 32)) {
			t.Error("a root was not zeroed")
		}
	}
	if _, err := k.StreamKey(roots[1].KeyID, stream); !errors.Is(err, ErrNoRoot) {
		t.Errorf("a closed keyring gave a key: %v", err)
	}
	if _, ok := k.ActiveKeyID(PurposeAudit); ok {
		t.Error("a closed keyring has an active root")
	}
	if key.MAC([]byte("m")) != before {
		t.Error("a key derived before the keyring was closed has changed")
	}
}

func TestI1_KeyringPrintsNoRoot(t *testing.T) {
	t.Parallel()
	keeper := newKeeper(t, nil)
	k := open(t, keeper, newRoots(t, keeper), Purposes()...)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		text := fmt.Sprintf(format, k)
		for _, root := range k.roots {
			b := root.key.Reveal()[:8]
			if strings.Contains(text, hex.EncodeToString(b)) || strings.Contains(text, string(b)) || strings.Contains(text, strings.Trim(fmt.Sprint(b), "[]")) {
				t.Errorf("%s shows a root", format)
			}
		}
	}
}
