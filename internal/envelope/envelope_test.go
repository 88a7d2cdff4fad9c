package envelope

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// sequence returns n bytes that count up from first.
func sequence(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func key(first byte) sensitive.Bytes { return sensitive.Take(sequence(first, KeySize)) }

func place() Place {
	return Place{
		SecretID: uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff"), Name: "payments/db", Version: 1,
		VersionUID: uuid.MustParse("01020304-0506-0708-090a-0b0c0d0e0f10"),
	}
}

func newSealer(tb testing.TB) *Sealer {
	tb.Helper()
	s, err := NewSealer(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func sealText(tb testing.TB, dek sensitive.Bytes, p Place, text string) Sealed {
	tb.Helper()
	sealed, err := newSealer(tb).Seal(dek, p, sensitive.CopyString(text))
	if err != nil {
		tb.Fatal(err)
	}
	return sealed
}

func mustNotOpen(tb testing.TB, name string, dek sensitive.Bytes, p Place, s Sealed) {
	tb.Helper()
	got, err := Open(dek, p, s)
	if err != ErrUnopenable || !got.IsZero() { //nolint:errorlint // exactly this error, with nothing around it
		tb.Errorf("%s: error %v, plaintext given: %t", name, err, !got.IsZero())
	}
}

type vector struct {
	Name, DEK, Nonce, Plaintext, AAD, Ciphertext string
	Place                                        struct {
		SecretID   uuid.UUID `json:"secret_id"`
		Name       string
		Version    int64
		VersionUID uuid.UUID `json:"version_uid"`
	}
}

func (v vector) place() Place {
	return Place{SecretID: v.Place.SecretID, Name: v.Place.Name, Version: v.Place.Version, VersionUID: v.Place.VersionUID}
}

func vectors(tb testing.TB) []vector {
	tb.Helper()
	raw, err := os.ReadFile("../../testdata/formats/envelope.json")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct{ Cases []vector }
	if err := json.Unmarshal(raw, &file); err != nil {
		tb.Fatal(err)
	}
	if len(file.Cases) == 0 {
		tb.Fatal("no vectors")
	}
	return file.Cases
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		if got := hex.EncodeToString(v.place().additionalData()); got != v.AAD {
			t.Errorf("%s: additional data\n got %s\nwant %s", v.Name, got, v.AAD)
		}
		// The first two nonces are the start-up check's.
		random := append(sequence(0xd0, 2*NonceSize), unhex(t, v.Nonce)...)
		s, err := NewSealer(bytes.NewReader(random))
		if err != nil {
			t.Fatal(err)
		}
		dek := sensitive.Take(unhex(t, v.DEK))
		sealed, err := s.Seal(dek, v.place(), sensitive.Take(unhex(t, v.Plaintext)))
		if err != nil || hex.EncodeToString(sealed.Nonce) != v.Nonce || hex.EncodeToString(sealed.Ciphertext) != v.Ciphertext {
			t.Errorf("%s: sealed to\n    %x\nwant %s: %v", v.Name, sealed.Ciphertext, v.Ciphertext, err)
		}
		opened, err := Open(dek, v.place(), Sealed{Nonce: unhex(t, v.Nonce), Ciphertext: unhex(t, v.Ciphertext)})
		if err != nil || hex.EncodeToString(opened.Reveal()) != v.Plaintext {
			t.Errorf("%s: does not open: %v", v.Name, err)
		}
	}
}

func TestSealOpen_EveryLengthAndByteSurvives(t *testing.T) {
	t.Parallel()
	s, dek := newSealer(t), key(1)
	for _, n := range []int{0, 1, 15, 16, 17, 63, 64, 65, 255, 256, 4096, 64 << 10} {
		plain := sequence(0, n)
		sealed, err := s.Seal(dek, place(), sensitive.Copy(plain))
		if err != nil || len(sealed.Nonce) != NonceSize || len(sealed.Ciphertext) != n+Overhead {
			t.Fatalf("%d bytes: %v", n, err)
		}
		opened, err := Open(dek, place(), sealed)
		if err != nil || !bytes.Equal(opened.Reveal(), plain) {
			t.Errorf("%d bytes do not come back: %v", n, err)
		}
	}
}

func TestI5_MovedCiphertextDoesNotOpen(t *testing.T) {
	t.Parallel()
	dek := key(1)
	sealed := sealText(t, dek, place(), "the value")
	for name, move := range map[string]func(*Place){
		"another secret":                      func(p *Place) { p.SecretID[15] ^= 1 },
		"another name":                        func(p *Place) { p.Name = "payments/dc" },
		"a longer name":                       func(p *Place) { p.Name += "x" },
		"no name":                             func(p *Place) { p.Name = "" },
		"another version":                     func(p *Place) { p.Version = 2 },
		"a version that differs far up":       func(p *Place) { p.Version |= 1 << 40 },
		"a negative version":                  func(p *Place) { p.Version = -1 },
		"the secret made again":               func(p *Place) { p.SecretID, p.VersionUID = uuid.New(), uuid.New() },
		"the version made again, same number": func(p *Place) { p.VersionUID = uuid.New() },
		"the ids swapped":                     func(p *Place) { p.SecretID, p.VersionUID = p.VersionUID, p.SecretID },
		"nowhere":                             func(p *Place) { *p = Place{} },
	} {
		other := place()
		move(&other)
		mustNotOpen(t, name, dek, other, sealed)
	}
	if opened, err := Open(dek, place(), sealed); err != nil || string(opened.Reveal()) != "the value" {
		t.Errorf("its own place does not open it: %v", err)
	}
}

func TestI5_SwappedPartsDoNotOpen(t *testing.T) {
	t.Parallel()
	dekA, dekB := key(1), key(2)
	placeB := place()
	placeB.Version, placeB.VersionUID = 2, uuid.New()
	a, b := sealText(t, dekA, place(), "value of a"), sealText(t, dekB, placeB, "value of b")

	mustNotOpen(t, "the other's key", dekB, place(), a)
	mustNotOpen(t, "the other's nonce", dekA, place(), Sealed{b.Nonce, a.Ciphertext})
	mustNotOpen(t, "the other's ciphertext", dekA, place(), Sealed{a.Nonce, b.Ciphertext})
	mustNotOpen(t, "the other's row with this place's key", dekA, place(), b)
	mustNotOpen(t, "the other's row with its own key", dekB, place(), b)
	mustNotOpen(t, "no key", sensitive.Bytes{}, place(), a)
	mustNotOpen(t, "half a key", sensitive.Take(sequence(1, 16)), place(), a)
	mustNotOpen(t, "a released key", func() sensitive.Bytes { k := key(1); k.Release(); return k }(), place(), a)
}

func TestI5_DamagedCiphertextDoesNotOpen(t *testing.T) {
	t.Parallel()
	dek := key(1)
	sealed := sealText(t, dek, place(), "the value")
	for bit := range len(sealed.Ciphertext) * 8 {
		damaged := bytes.Clone(sealed.Ciphertext)
		damaged[bit/8] ^= 1 << (bit % 8)
		mustNotOpen(t, fmt.Sprintf("ciphertext bit %d flipped", bit), dek, place(), Sealed{sealed.Nonce, damaged})
	}
	for bit := range NonceSize * 8 {
		damaged := bytes.Clone(sealed.Nonce)
		damaged[bit/8] ^= 1 << (bit % 8)
		mustNotOpen(t, fmt.Sprintf("nonce bit %d flipped", bit), dek, place(), Sealed{damaged, sealed.Ciphertext})
	}
	for n := range len(sealed.Ciphertext) {
		mustNotOpen(t, fmt.Sprintf("ciphertext cut to %d bytes", n), dek, place(), Sealed{sealed.Nonce, sealed.Ciphertext[:n]})
	}
	for n := range NonceSize {
		mustNotOpen(t, fmt.Sprintf("nonce cut to %d bytes", n), dek, place(), Sealed{sealed.Nonce[:n], sealed.Ciphertext})
	}
	mustNotOpen(t, "ciphertext with a byte more", dek, place(), Sealed{sealed.Nonce, append(bytes.Clone(sealed.Ciphertext), 0)})
	mustNotOpen(t, "nonce with a byte more", dek, place(), Sealed{append(bytes.Clone(sealed.Nonce), 0), sealed.Ciphertext})
	mustNotOpen(t, "nothing", dek, place(), Sealed{})
}

func TestSeal_NoncesAreFresh(t *testing.T) {
	t.Parallel()
	s, dek, plain := newSealer(t), key(1), sensitive.CopyString("the same")
	var mu sync.Mutex
	nonces, ciphertexts := map[string]bool{}, map[string]bool{}
	var wg sync.WaitGroup
	const goroutines, each = 4, 5000
	for range goroutines {
		wg.Go(func() {
			for range each {
				sealed, err := s.Seal(dek, place(), plain)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				nonces[string(sealed.Nonce)], ciphertexts[string(sealed.Ciphertext)] = true, true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if want := goroutines * each; len(nonces) != want || len(ciphertexts) != want {
		t.Errorf("%d nonces and %d ciphertexts from %d seals of one value", len(nonces), len(ciphertexts), want)
	}
}

// Nonces are drawn by the very code that seals. That their first 64 bits are different says that they are; of so few, chance
// makes two of them equal once in millions of runs.
func TestNonces_NoneRepeats(t *testing.T) {
	t.Parallel()
	s, dek, plain := newSealer(t), key(1), sensitive.CopyString("x")
	drawn := make([]uint64, seals)
	for i := range drawn {
		sealed, err := s.Seal(dek, place(), plain)
		if err != nil {
			t.Fatal(err)
		}
		drawn[i] = binary.BigEndian.Uint64(sealed.Nonce)
	}
	slices.Sort(drawn)
	if n := len(slices.Compact(drawn)); n != seals {
		t.Errorf("%d nonces of %d seals", n, seals)
	}
}

// constant is a broken source of randomness.
type constant byte

func (c constant) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c)
	}
	return len(p), nil
}

func TestI4_WeakRandomnessNeverMakesANonce(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, random := range map[string]io.Reader{
		"fails":               iotest.ErrReader(broken),
		"empty":               bytes.NewReader(nil),
		"short for the first": bytes.NewReader(sequence(0, NonceSize-1)),
		"short for the other": bytes.NewReader(sequence(0, 2*NonceSize-1)),
		"stuck":               constant(7),
	} {
		if s, err := NewSealer(random); err == nil || s != nil {
			t.Errorf("%s: a sealer was made", name)
		}
	}
	if _, err := NewSealer(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("the cause is lost: %v", err)
	}

	for n := range NonceSize {
		s, err := NewSealer(bytes.NewReader(sequence(0, 2*NonceSize+n)))
		if err != nil {
			t.Fatal(err)
		}
		if sealed, err := s.Seal(key(1), place(), sensitive.CopyString("x")); err == nil || sealed.Ciphertext != nil {
			t.Errorf("sealed with %d random bytes", n)
		}
	}
	// A reader may give less than is asked for at a time.
	s, err := NewSealer(iotest.OneByteReader(bytes.NewReader(sequence(0, 3*NonceSize))))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.Seal(key(1), place(), sensitive.CopyString("x"))
	if err != nil || !bytes.Equal(sealed.Nonce, sequence(2*NonceSize, NonceSize)) {
		t.Errorf("one byte at a time: nonce %x, %v", sealed.Nonce, err)
	}
}

func TestSeal_RefusesWhatItCannotBind(t *testing.T) {
	t.Parallel()
	s, plain := newSealer(t), sensitive.CopyString("x")
	for name, unset := range map[string]func(*Place){
		"no secret id":   func(p *Place) { p.SecretID = [16]byte{} },
		"no name":        func(p *Place) { p.Name = "" },
		"version 0":      func(p *Place) { p.Version = 0 },
		"no version uid": func(p *Place) { p.VersionUID = [16]byte{} },
	} {
		p := place()
		unset(&p)
		if _, err := s.Seal(key(1), p, plain); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := s.Seal(sensitive.Take(sequence(1, n)), place(), plain); err == nil {
			t.Errorf("sealed under a key of %d bytes", n)
		}
	}
	released := key(1)
	released.Release()
	if _, err := s.Seal(released, place(), plain); err == nil {
		t.Error("sealed under a released key, which is zeros")
	}
	if _, err := s.Seal(key(1), place(), sensitive.Bytes{}); err == nil {
		t.Error("sealed the zero value")
	}
}

func TestI1_NothingPrintsThePlaintext(t *testing.T) {
	t.Parallel()
	const canary = "Zk7-canary-Qv9"
	dek := key(1)
	sealed := sealText(t, dek, place(), canary)
	opened, err := Open(dek, place(), sealed)
	if err != nil {
		t.Fatal(err)
	}
	_, openErr := Open(key(2), place(), sealed)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		text := fmt.Sprintf(strings.Repeat(format+" ", 4), sealed, opened, place(), openErr)
		if strings.Contains(text, canary) || strings.Contains(text, hex.EncodeToString([]byte(canary))) {
			t.Errorf("%s shows the plaintext", format)
		}
	}
	if bytes.Contains(sealed.Ciphertext, []byte(canary)) {
		t.Error("the ciphertext holds the plaintext")
	}
}

// FuzzOpenDamaged holds that of all inputs only the genuine ones open, to exactly their plaintext.
func FuzzOpenDamaged(f *testing.F) {
	genuine := map[string]string{}
	id := func(dek, nonce, ciphertext []byte, p Place) string {
		return fmt.Sprintf("%x|%x|%x|%x|%x|%d|%x", dek, nonce, ciphertext, p.SecretID, p.Name, p.Version, p.VersionUID)
	}
	for _, v := range vectors(f) {
		dek, nonce, ct, p := unhex(f, v.DEK), unhex(f, v.Nonce), unhex(f, v.Ciphertext), v.place()
		genuine[id(dek, nonce, ct, p)] = v.Plaintext
		f.Add(dek, nonce, ct, p.SecretID[:], p.Name, p.Version, p.VersionUID[:])
		f.Add(dek, nonce, ct[:len(ct)-1], p.SecretID[:], p.Name, p.Version, p.VersionUID[:])
		f.Add(dek, nonce, ct, p.VersionUID[:], p.Name, p.Version, p.SecretID[:])
		f.Add(dek, nonce[1:], ct, p.SecretID[:], p.Name+"x", p.Version+1, p.VersionUID[:])
	}
	f.Add([]byte(nil), []byte(nil), []byte(nil), []byte(nil), "", int64(0), []byte(nil))
	f.Add(sequence(0, 32), sequence(0, 24), sequence(0, 16), []byte(nil), "\x00", int64(-1), []byte(nil))
	f.Fuzz(func(t *testing.T, dek, nonce, ciphertext, secretID []byte, name string, version int64, versionUID []byte) {
		p := Place{Name: name, Version: version}
		copy(p.SecretID[:], secretID)
		copy(p.VersionUID[:], versionUID)
		nonceBefore, ciphertextBefore := bytes.Clone(nonce), bytes.Clone(ciphertext)
		got, err := Open(sensitive.Copy(dek), p, Sealed{nonce, ciphertext})
		want, ok := genuine[id(dek, nonce, ciphertext, p)]
		switch {
		case ok && (err != nil || hex.EncodeToString(got.Reveal()) != want):
			t.Errorf("a genuine one does not open to its plaintext: %v", err)
		case !ok && (!errors.Is(err, ErrUnopenable) || !got.IsZero()):
			t.Errorf("opened, or failed with %v", err)
		}
		if !bytes.Equal(nonce, nonceBefore) || !bytes.Equal(ciphertext, ciphertextBefore) {
			t.Error("the input was changed")
		}
	})
}
