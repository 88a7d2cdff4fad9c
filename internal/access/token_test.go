package access

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"hash/crc32"
	"io"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// referenceToken makes a token's text with math/big.
func referenceToken(number *big.Int) string {
	base62 := func(n *big.Int, width int) string {
		var out []byte
		for n, digit := new(big.Int).Set(n), new(big.Int); len(out) < width; {
			n.DivMod(n, big.NewInt(62), digit)
			out = append([]byte{digits[digit.Int64()]}, out...)
		}
		return string(out)
	}
	return withChecksum("svk_" + base62(number, 43))
}

func withChecksum(text string) string {
	sum := crc32.ChecksumIEEE([]byte(text))
	var out []byte
	for range 6 {
		out = append([]byte{digits[sum%62]}, out...)
		sum /= 62
	}
	return text + string(out)
}

func TestNewToken(t *testing.T) {
	t.Parallel()

	t.Run("it is the base 62 of 256 bits of the source, with its checksum", func(t *testing.T) {
		t.Parallel()
		for _, raw := range [][]byte{
			make([]byte, 32), bytes.Repeat([]byte{0xff}, 32), append(make([]byte, 31), 61), append(make([]byte, 31), 62),
			append([]byte{0x80}, make([]byte, 31)...), []byte("0123456789abcdefghijklmnopqrstuv"),
		} {
			text, fp, err := NewToken(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			want := referenceToken(new(big.Int).SetBytes(raw))
			if got := string(text.Reveal()); got != want || len(got) != TokenLength {
				t.Errorf("%x: got %s, want %s", raw, got, want)
			}
			if fp != sha256.Sum256([]byte(want)) {
				t.Errorf("%x: the fingerprint is not the SHA-256 of the text", raw)
			}
		}
	})

	t.Run("tokens of the system's source parse, and each is another", func(t *testing.T) {
		t.Parallel()
		seen := map[Fingerprint]bool{}
		for range 1000 {
			text, fp, err := NewToken(nil)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := ParseToken(text.Reveal())
			if err != nil || !parsed.Equal(fp) {
				t.Fatalf("%v", err)
			}
			seen[fp] = true
		}
		if len(seen) != 1000 {
			t.Errorf("1000 tokens are %d different ones", len(seen))
		}
	})

	t.Run("I4 a source that ends early or fails gives no token", func(t *testing.T) {
		t.Parallel()
		for _, source := range []io.Reader{bytes.NewReader(nil), bytes.NewReader(make([]byte, 31)), failing{}} {
			text, fp, err := NewToken(source)
			wantFault(t, err, fault.Internal)
			if !text.IsZero() || fp != (Fingerprint{}) {
				t.Error("a token came with the error")
			}
		}
	})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestTokenVectors(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../testdata/formats/token.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct{ Name, Random, Token, Fingerprint string }
	}
	if err := json.Unmarshal(raw, &file); err != nil || len(file.Cases) == 0 {
		t.Fatalf("%d vectors, %v", len(file.Cases), err)
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			random, err := hex.DecodeString(c.Random)
			if err != nil {
				t.Fatal(err)
			}
			text, fp, err := NewToken(bytes.NewReader(random))
			if err != nil || string(text.Reveal()) != c.Token || hex.EncodeToString(fp[:]) != c.Fingerprint {
				t.Errorf("made %s with fingerprint %x, %v", text.Reveal(), fp, err)
			}
			parsed, err := ParseToken([]byte(c.Token))
			if err != nil || !parsed.Equal(fp) {
				t.Errorf("parsed to %x, %v", parsed, err)
			}
		})
	}
}

func TestI4_ParseTokenRefuses(t *testing.T) {
	t.Parallel()
	good := referenceToken(big.NewInt(0).Lsh(big.NewInt(12345), 200))
	if _, err := ParseToken([]byte(good)); err != nil {
		t.Fatal(err)
	}
	over := new(big.Int).Lsh(big.NewInt(1), 256)
	for claim, text := range map[string]string{
		"nothing":                      "",
		"the prefix alone":             "svk_",
		"no prefix":                    good[4:],
		"another prefix":               "hvs." + good[4:],
		"the prefix in upper case":     "SVK_" + good[4:],
		"one character less":           good[:len(good)-1],
		"one character more":           good + "0",
		"white space around":           " " + good[1:],
		"a trailing line break":        good + "\n",
		"a line break for a character": good[:len(good)-1] + "\n",
		"a minus for a digit":          good[:10] + "-" + good[11:],
		"a NUL":                        good[:10] + "\x00" + good[11:],
		"a byte beyond ASCII":          good[:10] + "\xff" + good[11:],
		"a minus and its checksum":     withChecksum(good[:10] + "-" + good[11:47]),
		"a space and its checksum":     withChecksum(good[:46] + " "),
		"a NUL and its checksum":       withChecksum("svk_\x00" + good[5:47]),
		"2 to the 256th":               referenceToken(over),
		"the largest of 43 digits":     referenceToken(new(big.Int).Sub(new(big.Int).Exp(big.NewInt(62), big.NewInt(43), nil), big.NewInt(1))),
		"the checksum in another case": good[:len(good)-6] + swapCase(good[len(good)-6:]),
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			fp, err := ParseToken([]byte(text))
			wantFault(t, err, fault.Unauthenticated, "send the 53 characters that begin with svk_")
			if fp != (Fingerprint{}) {
				t.Error("a fingerprint came with the error")
			}
		})
	}

	t.Run("the largest number that there is is accepted", func(t *testing.T) {
		t.Parallel()
		if _, err := ParseToken([]byte(referenceToken(over.Sub(over, big.NewInt(1))))); err != nil {
			t.Error(err)
		}
	})

	t.Run("every change of one character is noticed", func(t *testing.T) {
		t.Parallel()
		for i := range good {
			for _, c := range []byte(digits) {
				if changed := good[:i] + string(c) + good[i+1:]; changed != good {
					if _, err := ParseToken([]byte(changed)); err == nil {
						t.Errorf("%c at %d is accepted", c, i)
					}
				}
			}
		}
	})

	t.Run("I11 the error does not repeat the text", func(t *testing.T) {
		t.Parallel()
		if _, err := ParseToken([]byte("svk_canary")); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("got %v", err)
		}
	})

	t.Run("the text stays as it was", func(t *testing.T) {
		t.Parallel()
		text := []byte(good)
		if _, err := ParseToken(text); err != nil || string(text) != good {
			t.Errorf("it is %s, %v", text, err)
		}
	})
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' {
			return r ^ 0x20
		}
		return (r-'0'+1)%10 + '0'
	}, s)
}

func TestI12_FingerprintEqual(t *testing.T) {
	t.Parallel()

	t.Run("it tells same from different, in every bit", func(t *testing.T) {
		t.Parallel()
		a := Fingerprint(sha256.Sum256([]byte("a")))
		if !a.Equal(a) || a.Equal(Fingerprint{}) {
			t.Error("wrong")
		}
		for bit := range 256 {
			b := a
			b[bit/8] ^= 1 << (bit % 8)
			if a.Equal(b) || b.Equal(a) {
				t.Errorf("bit %d makes no difference", bit)
			}
		}
	})

	// Time itself can't be asserted on a shared machine; that the constant-time comparison is the one in use can.
	t.Run("it is crypto/subtle's comparison of the whole", func(t *testing.T) {
		t.Parallel()
		file, err := parser.ParseFile(token.NewFileSet(), "token.go", nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Name.Name != "Equal" {
				continue
			}
			if len(f.Body.List) != 1 {
				t.Error("Equal does more than return")
			}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				call, ok := n.(*ast.SelectorExpr)
				found = found || ok && call.Sel.Name == "ConstantTimeCompare"
				return true
			})
		}
		if !found {
			t.Error("Equal does not call subtle.ConstantTimeCompare")
		}
	})
}

func FuzzParseToken(f *testing.F) {
	for _, n := range []int64{0, 1, 61, 62, 1 << 62} {
		f.Add([]byte(referenceToken(big.NewInt(n))))
	}
	f.Add([]byte(referenceToken(new(big.Int).Lsh(big.NewInt(1), 256))))
	for _, s := range []string{"", "svk_", "svk_" + strings.Repeat("0", 49), "svk_" + strings.Repeat("z", 49), "hvs.abc", strings.Repeat("\xff", 53)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		fp, err := ParseToken(text)
		if err != nil {
			wantFault(t, err, fault.Unauthenticated)
			return
		}
		number := new(big.Int)
		for _, c := range text[4:47] {
			number.Mul(number, big.NewInt(62)).Add(number, big.NewInt(int64(strings.IndexByte(digits, c))))
		}
		if number.BitLen() > 256 || referenceToken(number) != string(text) {
			t.Fatalf("%q is accepted; its number makes %q", text, referenceToken(number))
		}
		if !fp.Equal(sha256.Sum256(text)) {
			t.Fatal("another fingerprint")
		}
	})
}
