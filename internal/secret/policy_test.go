package secret

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/randomness"
)

const (
	lowers  = "abcdefghijklmnopqrstuvwxyz"
	uppers  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
	symbols = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
)

func TestPasswordPolicyValidate(t *testing.T) {
	t.Parallel()
	for claim, p := range map[string]PasswordPolicy{
		"the zero policy":                  {},
		"22 characters of the default":     {Length: 22},
		"all classes":                      {Length: 22, Classes: []string{"symbol", "digit", "upper", "lower"}},
		"every character":                  {Length: 20, Alphabet: lowers + uppers + digits + symbols},
		"two characters, 128 times":        {Length: 128, Alphabet: "01"},
		"digits by default":                {Alphabet: digits},
		"the longest":                      {Length: 1024, Alphabet: lowers, Classes: []string{"lower"}},
		"a class of one character":         {Length: 30, Alphabet: lowers + "!", Classes: []string{"symbol"}},
		"hexadecimal of 128 bits and more": {Length: 32, Alphabet: "0123456789abcdef"},
	} {
		t.Run("accepts "+claim, func(t *testing.T) {
			t.Parallel()
			if err := p.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
	for claim, c := range map[string]struct {
		p    PasswordPolicy
		says string
	}{
		"a negative length":                  {PasswordPolicy{Length: -1}, "length must be"},
		"1025 characters":                    {PasswordPolicy{Length: 1025}, "length must be"},
		"a character twice":                  {PasswordPolicy{Alphabet: lowers + "a"}, "each of them once"},
		"a space":                            {PasswordPolicy{Alphabet: lowers + " "}, "without the space"},
		"a control character":                {PasswordPolicy{Alphabet: lowers + "\n"}, "printable"},
		"DEL":                                {PasswordPolicy{Alphabet: lowers + "\x7f"}, "printable"},
		"a character beyond ASCII":           {PasswordPolicy{Alphabet: lowers + "é"}, "printable"},
		"another class":                      {PasswordPolicy{Classes: []string{"letter"}}, "can be lower, upper"},
		"a class twice":                      {PasswordPolicy{Classes: []string{"digit", "digit"}}, "once each"},
		"a class that isn't in the alphabet": {PasswordPolicy{Alphabet: lowers, Classes: []string{"digit"}}, "has no character"},
		"21 characters of the default":       {PasswordPolicy{Length: 21}, "less than 128 bits"},
		"one character of everything":        {PasswordPolicy{Length: 1}, "less than 128 bits"},
		"an alphabet of one":                 {PasswordPolicy{Length: 1024, Alphabet: "a"}, "less than 128 bits"},
		"two characters, 127 times":          {PasswordPolicy{Length: 127, Alphabet: "01"}, "less than 128 bits"},
		"what a class takes away":            {PasswordPolicy{Length: 128, Alphabet: "0a", Classes: []string{"digit"}}, "less than 128 bits"},
		"hexadecimal that needs a digit":     {PasswordPolicy{Length: 32, Alphabet: "0123456789abcdef", Classes: []string{"digit"}}, "less than 128 bits"},
	} {
		t.Run("refuses "+claim, func(t *testing.T) {
			t.Parallel()
			if message := wantFault(t, c.p.Validate(), fault.Invalid); !strings.Contains(message, c.says) {
				t.Errorf("%q is not in: %s", c.says, message)
			}
			if !c.p.IsZero() {
				if value, err := c.p.Generate(nil); fault.KindOf(err) != fault.Invalid || !value.IsZero() {
					t.Errorf("Generate: %v", err)
				}
			}
		})
	}
}

func TestI11_PasswordPolicyErrorsDoNotRepeatTheInput(t *testing.T) {
	t.Parallel()
	const canary = "hunter2canary"
	for _, p := range []PasswordPolicy{{Alphabet: canary + " "}, {Alphabet: canary}, {Classes: []string{canary}}} {
		if err := p.Validate(); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("Validate: %v", err)
		}
	}
}

func TestPasswordPolicy_CountsWhatSatisfiesIt(t *testing.T) {
	t.Parallel()
	for _, p := range []PasswordPolicy{
		{Length: 4, Alphabet: "aA0!"},
		{Length: 4, Alphabet: "aA0!", Classes: []string{"lower", "upper", "digit", "symbol"}},
		{Length: 5, Alphabet: "abA0!", Classes: []string{"symbol", "lower"}},
		{Length: 3, Alphabet: "abA", Classes: []string{"upper"}},
		{Length: 2, Alphabet: "aA0", Classes: []string{"lower", "upper", "digit"}},
	} {
		want := int64(0)
		var try func(password []byte)
		try = func(password []byte) {
			if len(password) < p.Length {
				for i := range len(p.Alphabet) {
					try(append(slices.Clone(password), p.Alphabet[i]))
				}
			} else if p.satisfied(password) {
				want++
			}
		}
		try(nil)
		if got := p.count(); got.Cmp(big.NewInt(want)) != 0 {
			t.Errorf("%+v: %s, want %d", p, got, want)
		}
	}
}

// maxAttempts rests on it.
func TestPasswordPolicy_OneInTwentyHasAllClasses(t *testing.T) {
	t.Parallel()
	sizes := func(all string) []string { return []string{"", all[:1], all[:2], all[:5], all} }
	for _, a := range sizes(lowers) {
		for _, b := range sizes(uppers) {
			for _, c := range sizes(digits) {
				for _, d := range sizes(symbols) {
					p := PasswordPolicy{Alphabet: a + b + c + d}
					for i, members := range []string{a, b, c, d} {
						if members != "" {
							p.Classes = append(p.Classes, classes[i].name)
						}
					}
					if len(p.Alphabet) < 2 {
						continue
					}
					for p.Length = 1; p.Validate() != nil; p.Length++ {
					}
					all := new(big.Int).Exp(big.NewInt(int64(len(p.Alphabet))), big.NewInt(int64(p.Length)), nil)
					if all.Cmp(new(big.Int).Mul(p.count(), big.NewInt(20))) > 0 {
						t.Errorf("%d characters of %s: fewer", p.Length, p.Alphabet)
					}
				}
			}
		}
	}
}

func TestPasswordPolicyGenerate(t *testing.T) {
	t.Parallel()

	t.Run("the zero policy gives what GenerateValue gives", func(t *testing.T) {
		t.Parallel()
		source := make([]byte, 64)
		_, _ = rand.Read(source)
		want, err := GenerateValue(bytes.NewReader(source))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := (PasswordPolicy{}).Generate(bytes.NewReader(source)); err != nil || !bytes.Equal(got.Reveal(), want.Reveal()) {
			t.Errorf("it doesn't, %v", err)
		}
		if got, err := (PasswordPolicy{Classes: []string{}}).Generate(bytes.NewReader(source)); err != nil || !bytes.Equal(got.Reveal(), want.Reveal()) {
			t.Errorf("with no classes it doesn't, %v", err)
		}
	})

	t.Run("a nil source is the system's", func(t *testing.T) {
		t.Parallel()
		for _, p := range []PasswordPolicy{
			{Length: 22, Classes: []string{"lower", "upper", "digit", "symbol"}},
			{Length: 30, Alphabet: lowers + "!", Classes: []string{"symbol"}},
			{Length: 1024},
			{Alphabet: digits},
			{Classes: []string{"digit"}},
		} {
			seen := map[string]bool{}
			length, alphabet := p.resolve()
			for range 200 {
				value, err := p.Generate(nil)
				if err != nil {
					t.Fatal(err)
				}
				password := value.Reveal()
				if len(password) != length || strings.Trim(string(password), alphabet) != "" || !p.satisfied(password) {
					t.Fatalf("%+v gave another password", p)
				}
				seen[string(password)] = true
			}
			if len(seen) != 200 {
				t.Errorf("200 passwords are %d different ones", len(seen))
			}
		}
	})

	t.Run("a byte is taken by its place in the alphabet, and one too many is left out", func(t *testing.T) {
		t.Parallel()
		// 250 to 255 would make 0 to 5 likelier.
		source := append([]byte{250, 251, 252, 253, 254, 255, 249, 0, 10, 19}, bytes.Repeat([]byte{28, 255}, 60)...)
		got, err := PasswordPolicy{Length: 40, Alphabet: digits}.Generate(bytes.NewReader(source))
		if err != nil || string(got.Reveal()) != "9009"+strings.Repeat("8", 36) {
			t.Errorf("%v", err)
		}
	})

	t.Run("a password that lacks a class is drawn anew as a whole", func(t *testing.T) {
		t.Parallel()
		source := append(bytes.Repeat([]byte{1}, 30), append([]byte{26}, bytes.Repeat([]byte{2}, 200)...)...)
		got, err := PasswordPolicy{Length: 30, Alphabet: lowers + "!", Classes: []string{"symbol"}}.Generate(bytes.NewReader(source))
		if err != nil || string(got.Reveal()) != "!"+strings.Repeat("c", 29) {
			t.Errorf("%v", err)
		}
	})

	t.Run("I4 a source that fails, ends early, is stuck or never gives a class gives no password", func(t *testing.T) {
		t.Parallel()
		p, classed := PasswordPolicy{Length: 100}, PasswordPolicy{Length: 100, Classes: []string{"digit"}}
		for name, c := range map[string]struct {
			p      PasswordPolicy
			source io.Reader
		}{
			"empty":          {p, bytes.NewReader(nil)},
			"early":          {p, bytes.NewReader(make([]byte, 127))},
			"failing":        {p, io.MultiReader(bytes.NewReader(make([]byte, 64)), failing{errors.New("broken")})},
			"stuck":          {p, randomness.New(zeros{})},
			"without digits": {classed, zeros{}},
		} {
			value, err := c.p.Generate(c.source)
			wantFault(t, err, fault.Internal)
			if !value.IsZero() {
				t.Errorf("%s: a password came with the error", name)
			}
		}
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Every password is as likely as any other: of 3 characters from 5, of which one must be upper-case and one a digit, there are 42,
// and a chi-squared test finds the preference of any of the shortcuts. The source is fixed, so it passes always or never.
func TestPasswordPolicy_IsUniform(t *testing.T) {
	t.Parallel()
	p := PasswordPolicy{Length: 3, Alphabet: "abA01", Classes: []string{"upper", "digit"}}
	const draws = 72000
	counts := map[string]int{}
	d := characters{random: &counter{}, alphabet: p.Alphabet}
	password := make([]byte, p.Length)
	for n := 0; n < draws; {
		if err := d.fill(password); err != nil {
			t.Fatal(err)
		}
		if p.satisfied(password) {
			counts[string(password)]++
			n++
		}
	}
	if total := p.count().Int64(); int64(len(counts)) != total {
		t.Fatalf("%d passwords occur, want %d", len(counts), total)
	}
	expected, sum := float64(draws)/float64(len(counts)), 0.0
	for _, n := range counts {
		sum += (float64(n) - expected) * (float64(n) - expected) / expected
	}
	if sum > 85 { // with 41 degrees of freedom, one in 20,000
		t.Errorf("chi-squared is %.1f", sum)
	}
}

// counter gives the hashes of 0, 1, 2, …
type counter struct{ n uint64 }

func (c *counter) Read(b []byte) (int, error) {
	hash := sha256.Sum256(binary.BigEndian.AppendUint64(nil, c.n))
	c.n++
	return copy(b, hash[:]), nil
}
