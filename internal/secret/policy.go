package secret

import (
	"errors"
	"io"
	"math/big"
	"slices"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

const (
	// MaxPasswordLength is the longest password that a policy asks for, in characters, which are bytes.
	MaxPasswordLength = 1024
	// MinPasswordBits is the least strength of a generated password.
	MinPasswordBits = 128

	defaultLength   = 43
	defaultAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)

// classes are those that a policy can ask for, in the order in which they are stored.
var classes = []struct {
	name string
	has  func(byte) bool
}{
	{"lower", func(c byte) bool { return 'a' <= c && c <= 'z' }},
	{"upper", func(c byte) bool { return 'A' <= c && c <= 'Z' }},
	{"digit", func(c byte) bool { return '0' <= c && c <= '9' }},
	{"symbol", isSymbol},
}

func isSymbol(c byte) bool {
	return 0x21 <= c && c <= 0x7e && !('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') && !('0' <= c && c <= '9')
}

// PasswordPolicy says how a generated value or password looks. The zero value is what GenerateValue makes: 256 random bits as 43
// characters of base64url.
type PasswordPolicy struct {
	// Length is in characters, at most 1024; 0 is 43.
	Length int
	// Alphabet holds printable ASCII characters without the space, each once; "" means letters, digits, '-' and '_'.
	Alphabet string
	// Classes must each occur at least once: "lower", "upper", "digit", "symbol", which is whatever is none of the others. Each must
	// be in the alphabet.
	Classes []string
}

// IsZero tells whether p is the zero policy.
func (p PasswordPolicy) IsZero() bool {
	return p.Length == 0 && p.Alphabet == "" && len(p.Classes) == 0
}

// Validate checks the limits, and that the passwords which satisfy the policy are at least 2^128, counted exactly. Errors are of
// kind Invalid and never repeat the input.
func (p PasswordPolicy) Validate() error {
	if problem := p.problem(); problem != "" {
		return fault.New(fault.Invalid, problem)
	}
	return nil
}

func (p PasswordPolicy) problem() string {
	if p.Length < 0 || p.Length > MaxPasswordLength {
		return "password_policy.length must be 1 to 1024 characters, or 0 for 43"
	}
	seen := map[byte]bool{}
	for i := range len(p.Alphabet) {
		c := p.Alphabet[i]
		if c < 0x21 || c > 0x7e || seen[c] {
			return "password_policy.alphabet must hold printable ASCII characters without the space, each of them once"
		}
		seen[c] = true
	}
	_, alphabet := p.resolve()
	for i, name := range p.Classes {
		members, known := classMembers(name, alphabet)
		switch {
		case !known:
			return "password_policy.classes can be lower, upper, digit and symbol"
		case slices.Contains(p.Classes[:i], name):
			return "password_policy.classes must be listed once each"
		case members == 0:
			return "password_policy.classes ask for one of which the alphabet has no character: add some to the alphabet, or leave the class out"
		}
	}
	if p.count().BitLen() <= MinPasswordBits {
		return "passwords of this password_policy have less than 128 bits: ask for a greater length or a larger alphabet (22 characters of the default one do)"
	}
	return ""
}

// resolve gives the length and alphabet with their defaults.
func (p PasswordPolicy) resolve() (length int, alphabet string) {
	length, alphabet = p.Length, p.Alphabet
	if length == 0 {
		length = defaultLength
	}
	if alphabet == "" {
		alphabet = defaultAlphabet
	}
	return length, alphabet
}

// classMembers counts the characters of a class in an alphabet.
func classMembers(name, alphabet string) (n int, known bool) {
	for _, class := range classes {
		if class.name != name {
			continue
		}
		for i := range len(alphabet) {
			if class.has(alphabet[i]) {
				n++
			}
		}
		return n, true
	}
	return 0, false
}

// count gives how many passwords satisfy the policy. Classes don't overlap, so that those which lack a set of them are the
// passwords over what is left of the alphabet: inclusion and exclusion of these give the rest.
func (p PasswordPolicy) count() *big.Int {
	length, alphabet := p.resolve()
	total := new(big.Int)
	for lacking := range 1 << len(p.Classes) {
		left, odd := len(alphabet), false
		for i, name := range p.Classes {
			if lacking>>i&1 == 1 {
				members, _ := classMembers(name, alphabet)
				left -= members
				odd = !odd
			}
		}
		n := new(big.Int).Exp(big.NewInt(int64(left)), big.NewInt(int64(length)), nil)
		if odd {
			total.Sub(total, n)
		} else {
			total.Add(total, n)
		}
	}
	return total
}

// maxAttempts bounds the search for a password with all classes. Of the passwords over an alphabet, at least one in twenty has
// them all if they make 128 bits, so that a source which works fails this less than once in 2^140.
const maxAttempts = 2000

var errNoPassword = errors.New("secret: the source never gives a password of the policy")

// Generate makes a password, every one that satisfies the policy being as likely as any other: characters are drawn without
// bias, and a password that lacks a class is drawn anew as a whole, as mending it would prefer some. A nil random is
// randomness.Reader. A source that fails, ends early or never gives what it should is an error of kind Internal, never a weaker
// password; a policy that Validate refuses is an error of kind Invalid. The caller releases the result.
func (p PasswordPolicy) Generate(random io.Reader) (sensitive.Bytes, error) {
	if p.IsZero() {
		return GenerateValue(random)
	}
	if err := p.Validate(); err != nil {
		return sensitive.Bytes{}, err
	}
	if random == nil {
		random = randomness.Reader
	}
	length, alphabet := p.resolve()
	draw := characters{random: random, alphabet: alphabet}
	defer draw.zero()
	password := make([]byte, length)
	for range maxAttempts {
		if err := draw.fill(password); err != nil {
			sensitive.Zero(password)
			return sensitive.Bytes{}, fault.Wrap(fault.Internal, err, "")
		}
		if p.satisfied(password) {
			return sensitive.Take(password), nil
		}
	}
	sensitive.Zero(password)
	return sensitive.Bytes{}, fault.Wrap(fault.Internal, errNoPassword, "")
}

func (p PasswordPolicy) satisfied(password []byte) bool {
	for _, class := range classes {
		if slices.Contains(p.Classes, class.name) && !slices.ContainsFunc(password, class.has) {
			return false
		}
	}
	return true
}

// characters draws from an alphabet, each character being as likely as any other.
type characters struct {
	random   io.Reader
	alphabet string
	buf      [64]byte // one draw, of more than randomness.MinDraw
	left     int      // bytes at its end that were not used yet
}

func (d *characters) fill(out []byte) error {
	// The bytes from here on would make the first characters of the alphabet likelier than the rest.
	limit := 256 - 256%len(d.alphabet)
	for i := 0; i < len(out); {
		if d.left == 0 {
			if _, err := io.ReadFull(d.random, d.buf[:]); err != nil {
				return err
			}
			d.left = len(d.buf)
		}
		b := int(d.buf[len(d.buf)-d.left])
		d.left--
		if b < limit {
			out[i] = d.alphabet[b%len(d.alphabet)]
			i++
		}
	}
	return nil
}

func (d *characters) zero() { sensitive.Zero(d.buf[:]) }

// sortedClasses gives the classes in the order in which they are stored.
func sortedClasses(names []string) []string {
	names = slices.Clone(names)
	slices.SortStableFunc(names, func(a, b string) int { return classOrder(a) - classOrder(b) })
	return names
}

func classOrder(name string) int {
	for i, class := range classes {
		if class.name == name {
			return i
		}
	}
	return len(classes)
}
