package kms

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/sealkeep/sealkeep/internal/fault"
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

func newLocal(tb testing.TB, master []byte, random io.Reader) *Local {
	tb.Helper()
	l, err := NewLocal(sensitive.Copy(master), random)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(l.Close)
	return l
}

func generate(tb testing.TB, l *Local, encryptionContext map[string]string) DataKey {
	tb.Helper()
	key, err := l.GenerateDataKey(context.Background(), contextOf(encryptionContext))
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// contextOf makes a context of pairs of text.
func contextOf(pairs map[string]string) Context {
	var all []Pair
	for name, value := range pairs {
		all = append(all, Text(name, value))
	}
	return NewContext(all...)
}

func secretContext() map[string]string {
	return map[string]string{"use": "secret", "secret_id": "00112233-4455-6677-8899-aabbccddeeff", "name": "payments/db", "version": "1"}
}

// wantFault checks that err is a *fault.Error of the kind that wraps the target.
func wantFault(tb testing.TB, err error, kind fault.Kind, target error) {
	tb.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != kind || !errors.Is(err, target) {
		tb.Errorf("error is %v, want kind %s wrapping %v", err, kind, target)
	}
}

type wrapVector struct {
	Name, Master, Nonce, AAD, Wrapped string
	KeyID                             string `json:"key_id"`
	WrapKey                           string `json:"wrap_key"`
	DataKey                           string `json:"data_key"`
	Context                           map[string]string
}

func vectors(tb testing.TB) []wrapVector {
	tb.Helper()
	raw, err := os.ReadFile("../../testdata/formats/local-wrap.json")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct{ Cases []wrapVector }
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

func TestLocal_Vectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		l := newLocal(t, unhex(t, v.Master), bytes.NewReader(unhex(t, v.Nonce+v.DataKey)))
		key := generate(t, l, v.Context)
		if l.KeyID() != v.KeyID || key.KeyID != v.KeyID {
			t.Errorf("%s: key ids %s and %s, want %s", v.Name, l.KeyID(), key.KeyID, v.KeyID)
		}
		if got := hex.EncodeToString(l.wrapKey.Reveal()); got != v.WrapKey {
			t.Errorf("%s: wrapping key %s, want %s", v.Name, got, v.WrapKey)
		}
		if got := hex.EncodeToString(l.additionalData(contextOf(v.Context))); got != v.AAD {
			t.Errorf("%s: additional data\n got %s\nwant %s", v.Name, got, v.AAD)
		}
		if got := hex.EncodeToString(key.Wrapped); got != v.Wrapped {
			t.Errorf("%s: wrapped\n got %s\nwant %s", v.Name, got, v.Wrapped)
		}
		opened, err := l.Decrypt(context.Background(), unhex(t, v.Wrapped), v.KeyID, contextOf(v.Context))
		if err != nil || hex.EncodeToString(opened.Reveal()) != v.DataKey {
			t.Errorf("%s: does not unwrap to the data key: %v", v.Name, err)
		}
	}
}

func TestLocal_KeysAreFreshAndSurviveARestart(t *testing.T) {
	t.Parallel()
	master := sensitive.Take(sequence(0, DataKeySize))
	l, err := NewLocal(master, nil)
	if err != nil {
		t.Fatal(err)
	}
	master.Release() // the keeper has what it needs
	seen := map[string]bool{}
	var last DataKey
	for range 1000 {
		last = generate(t, l, secretContext())
		nonce := string(last.Wrapped[1:25])
		if last.Plaintext.Len() != DataKeySize || seen[nonce] || seen[string(last.Plaintext.Reveal())] {
			t.Fatal("a key or nonce came twice, or a key is not 256 bits")
		}
		seen[nonce], seen[string(last.Plaintext.Reveal())] = true, true
	}
	if !regexp.MustCompile(`^local:[0-9a-f]{16}$`).MatchString(l.KeyID()) || last.KeyID != l.KeyID() {
		t.Errorf("key id %q", l.KeyID())
	}
	again := newLocal(t, sequence(0, DataKeySize), nil)
	opened, err := again.Decrypt(context.Background(), last.Wrapped, last.KeyID, contextOf(secretContext()))
	if err != nil || !sensitive.Equal(opened, last.Plaintext) {
		t.Errorf("a new keeper under the same master key does not unwrap: %v", err)
	}
}

func TestI5_WrappedKeyOpensOnlyInItsContext(t *testing.T) {
	t.Parallel()
	l := newLocal(t, sequence(0, DataKeySize), nil)
	key := generate(t, l, secretContext())
	for name, change := range map[string]func(map[string]string){
		"another secret":      func(c map[string]string) { c["secret_id"] = "ffeeddcc-bbaa-9988-7766-554433221100" },
		"another name":        func(c map[string]string) { c["name"] = "payments/dc" },
		"another version":     func(c map[string]string) { c["version"] = "2" },
		"another use":         func(c map[string]string) { c["use"] = "integrity" },
		"a pair less":         func(c map[string]string) { delete(c, "version") },
		"a pair more":         func(c map[string]string) { c["purpose"] = "audit" },
		"an empty pair more":  func(c map[string]string) { c[""] = "" },
		"none":                func(c map[string]string) { clear(c) },
		"values swapped":      func(c map[string]string) { c["name"], c["use"] = c["use"], c["name"] },
		"a key renamed":       func(c map[string]string) { c["Version"] = c["version"]; delete(c, "version") },
		"border moved by one": func(c map[string]string) { c["nam"] = "e" + c["name"]; delete(c, "name") },
	} {
		other := secretContext()
		change(other)
		opened, err := l.Decrypt(context.Background(), key.Wrapped, key.KeyID, contextOf(other))
		wantFault(t, err, fault.Internal, ErrInvalidCiphertext)
		if !opened.IsZero() {
			t.Errorf("%s: something came with the error", name)
		}
	}
	if _, err := l.Decrypt(context.Background(), key.Wrapped, key.KeyID, contextOf(secretContext())); err != nil {
		t.Errorf("its own context does not open it: %v", err)
	}
}

func TestI5_DamagedWrappedKeyDoesNotOpen(t *testing.T) {
	t.Parallel()
	l := newLocal(t, sequence(0, DataKeySize), nil)
	key := generate(t, l, secretContext())
	try := func(name string, wrapped []byte) {
		_, err := l.Decrypt(context.Background(), wrapped, key.KeyID, contextOf(secretContext()))
		if !errors.Is(err, ErrInvalidCiphertext) || fault.KindOf(err) != fault.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	for bit := range len(key.Wrapped) * 8 {
		damaged := bytes.Clone(key.Wrapped)
		damaged[bit/8] ^= 1 << (bit % 8)
		try(fmt.Sprintf("bit %d flipped", bit), damaged)
	}
	for n := range len(key.Wrapped) {
		try(fmt.Sprintf("cut to %d bytes", n), key.Wrapped[:n])
	}
	try("a byte too long", append(bytes.Clone(key.Wrapped), 0))
	try("nil", nil)
}

func TestI4_OtherMasterKeyIsToldFromDamage(t *testing.T) {
	t.Parallel()
	l, other := newLocal(t, sequence(0, DataKeySize), nil), newLocal(t, sequence(1, DataKeySize), nil)
	key := generate(t, l, secretContext())
	if l.KeyID() == other.KeyID() {
		t.Fatal("two master keys have one id")
	}
	_, err := other.Decrypt(context.Background(), key.Wrapped, key.KeyID, contextOf(secretContext()))
	wantFault(t, err, fault.Internal, ErrUnknownKey)
	// A row whose key id was edited to fit still doesn't open.
	_, err = other.Decrypt(context.Background(), key.Wrapped, other.KeyID(), contextOf(secretContext()))
	wantFault(t, err, fault.Internal, ErrInvalidCiphertext)
	for _, id := range []string{"", "local:", strings.ToUpper(key.KeyID), key.KeyID + "0", "arn:aws:kms:x"} {
		_, err = l.Decrypt(context.Background(), key.Wrapped, id, contextOf(secretContext()))
		wantFault(t, err, fault.Internal, ErrUnknownKey)
	}
}

func TestNewLocal_RefusesWhatIsNoMasterKey(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 16, 31, 33, 64} {
		if l, err := NewLocal(sensitive.Copy(sequence(1, n)), nil); err == nil || l != nil {
			t.Errorf("%d bytes were taken", n)
		}
	}
	if _, err := NewLocal(sensitive.Bytes{}, nil); err == nil {
		t.Error("the zero value was taken")
	}
	if _, err := NewLocal(sensitive.Take(make([]byte, DataKeySize)), nil); err == nil {
		t.Error("32 zero bytes were taken")
	}
}

func TestI4_ShortRandomnessIsAnError(t *testing.T) {
	t.Parallel()
	for n := range 24 + DataKeySize {
		l := newLocal(t, sequence(0, DataKeySize), bytes.NewReader(sequence(0, n)))
		key, err := l.GenerateDataKey(context.Background(), Context{})
		if fault.KindOf(err) != fault.Internal || err == nil || !key.Plaintext.IsZero() || key.Wrapped != nil {
			t.Errorf("with %d random bytes: %v", n, err)
		}
	}
	broken := errors.New("broken")
	_, err := newLocal(t, sequence(0, DataKeySize), iotest.ErrReader(broken)).GenerateDataKey(context.Background(), Context{})
	wantFault(t, err, fault.Internal, broken)
	// A reader may give less than is asked for at a time.
	key, err := newLocal(t, sequence(0, DataKeySize), iotest.OneByteReader(bytes.NewReader(sequence(0, 56)))).GenerateDataKey(context.Background(), Context{})
	if err != nil || !bytes.Equal(key.Plaintext.Reveal(), sequence(24, DataKeySize)) {
		t.Errorf("one byte at a time: %v", err)
	}
}

func TestLocal_DoneContextIsUnavailable(t *testing.T) {
	t.Parallel()
	l := newLocal(t, sequence(0, DataKeySize), nil)
	key := generate(t, l, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := l.GenerateDataKey(ctx, Context{})
	wantFault(t, err, fault.Unavailable, context.Canceled)
	_, err = l.Decrypt(ctx, key.Wrapped, key.KeyID, Context{})
	wantFault(t, err, fault.Unavailable, context.Canceled)
}

func TestLocal_Close(t *testing.T) {
	t.Parallel()
	l := newLocal(t, sequence(0, DataKeySize), nil)
	key := generate(t, l, nil)
	wrapKey := l.wrapKey.Reveal()
	var wg sync.WaitGroup
	for range 4 { // calls in flight end as if nothing happened, or with ErrClosed
		wg.Go(func() {
			for range 200 {
				if _, err := l.Decrypt(context.Background(), key.Wrapped, key.KeyID, Context{}); err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
	l.Close()
	l.Close()
	wg.Wait()
	if !bytes.Equal(wrapKey, make([]byte, DataKeySize)) {
		t.Error("the wrapping key was not zeroed")
	}
	_, err := l.GenerateDataKey(context.Background(), Context{})
	wantFault(t, err, fault.Internal, ErrClosed)
	_, err = l.Decrypt(context.Background(), key.Wrapped, key.KeyID, Context{})
	wantFault(t, err, fault.Internal, ErrClosed)
}

func TestI1_KeeperAndDataKeyPrintNoKey(t *testing.T) {
	t.Parallel()
	l := newLocal(t, sequence('A', DataKeySize), nil)
	key := generate(t, l, secretContext())
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		text := strings.ToLower(fmt.Sprintf(format, key) + fmt.Sprintf(format, &key) + fmt.Sprintf(format, l))
		for _, k := range [][]byte{sequence('A', DataKeySize), l.wrapKey.Reveal(), key.Plaintext.Reveal()} {
			decimal := strings.Trim(fmt.Sprint(k[:8]), "[]")
			if strings.Contains(text, hex.EncodeToString(k[:8])) || strings.Contains(text, strings.ToLower(string(k[:8]))) || strings.Contains(text, decimal) {
				t.Errorf("%s shows a key", format)
			}
		}
	}
}

func FuzzLocalDecrypt(f *testing.F) {
	for _, v := range vectors(f) {
		wrapped := unhex(f, v.Wrapped)
		f.Add(wrapped, v.KeyID, "use", "secret")
		f.Add(wrapped[:len(wrapped)-1], v.KeyID, "", "")
	}
	f.Add([]byte(nil), "", "", "")
	f.Add(append([]byte{localVersion}, make([]byte, localBlobSize-1)...), "local:0000000000000000", "use", "secret")
	// The fuzzer's processes must agree on which blob is genuine.
	l := newLocal(f, sequence(0, DataKeySize), bytes.NewReader(sequence(0x40, 56)))
	own := generate(f, l, map[string]string{"use": "secret"})
	f.Add(own.Wrapped, own.KeyID, "use", "secret")
	f.Fuzz(func(t *testing.T, wrapped []byte, keyID, k, v string) {
		before := bytes.Clone(wrapped)
		key, err := l.Decrypt(context.Background(), wrapped, keyID, NewContext(Text(k, v)))
		genuine := bytes.Equal(wrapped, own.Wrapped) && keyID == own.KeyID && k == "use" && v == "secret"
		if genuine != (err == nil) {
			t.Errorf("opens: %t, ought to: %t", err == nil, genuine)
		}
		if err != nil && (!key.IsZero() || fault.KindOf(err) != fault.Internal || (!errors.Is(err, ErrUnknownKey) && !errors.Is(err, ErrInvalidCiphertext))) {
			t.Errorf("error %v", err)
		}
		if !bytes.Equal(before, wrapped) {
			t.Error("the wrapped key was changed")
		}
	})
}
