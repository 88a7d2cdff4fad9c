package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// The text of a token is
//
//	svk_ ‖ 43 digits of the random number ‖ 6 digits of the checksum
//
// The number is 256 bits and the checksum the CRC-32 (IEEE 802.3) of all that precedes it; both are big-endian
// numbers in base 62, padded with zeros on the left. The prefix and the checksum let leak scanners recognise a
// token without asking anyone; they add nothing to its strength.
const (
	tokenPrefix   = "svk_"
	fetchPrefix   = "svf_" // of what lets a webhook's receiver fetch one value, once; as long as the other
	numberBytes   = 32
	numberDigits  = 43 // 62^43 > 2^256
	checkDigits   = 6  // 62^6 > 2^32
	checkedLength = len(tokenPrefix) + numberDigits
	// TokenLength is the length of every token, in bytes.
	TokenLength = checkedLength + checkDigits

	// digits is in the order of ASCII, so that numbers of one length compare as their texts do.
	digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	// maxNumber is 2^256 - 1; what is above is no encoding of 256 bits.
	maxNumber = "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1"
)

// Fingerprint identifies a token without disclosing it: the SHA-256 of its whole text, which is what is stored. No
// salt or stretching is needed, as nobody can guess 256 random bits.
type Fingerprint [sha256.Size]byte

// Equal compares in constant time (I12). Fingerprints are compared with this alone, never with ==.
func (f Fingerprint) Equal(o Fingerprint) bool {
	return subtle.ConstantTimeCompare(f[:], o[:]) == 1
}

// NewToken makes a token from 256 bits of random; nil is randomness.Reader. The caller shows text once and
// releases it; fp is for storing. A source that fails or ends early is an error of kind Internal, never a weaker token.
func NewToken(random io.Reader) (text sensitive.Bytes, fp Fingerprint, err error) {
	return newToken(tokenPrefix, random)
}

// NewFetchToken makes what lets a webhook's receiver fetch one value, once. It is to NewToken's tokens what another prefix makes of
// them: neither is ever taken for the other.
func NewFetchToken(random io.Reader) (text sensitive.Bytes, fp Fingerprint, err error) {
	return newToken(fetchPrefix, random)
}

func newToken(prefix string, random io.Reader) (text sensitive.Bytes, fp Fingerprint, err error) {
	if random == nil {
		random = randomness.Reader
	}
	var raw [numberBytes]byte
	defer sensitive.Zero(raw[:])
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return sensitive.Bytes{}, Fingerprint{}, fault.Wrap(fault.Internal, err, "")
	}
	token := make([]byte, TokenLength)
	copy(token, prefix)
	putBase62(token[len(tokenPrefix):checkedLength], raw[:])
	putChecksum(token[checkedLength:], token[:checkedLength])
	return sensitive.Take(token), sha256.Sum256(token), nil
}

// ParseToken checks that text has the form of a token, and gives its fingerprint; whether such a token was ever
// issued is not its business. It neither keeps nor changes text. The error, of kind Unauthenticated, is the same
// whatever is wrong.
func ParseToken(text []byte) (Fingerprint, error) {
	if !wellFormed(tokenPrefix, text) {
		return Fingerprint{}, fault.New(fault.Unauthenticated,
			"this is not a Sealkeep token: send the 53 characters that begin with svk_ as they were shown when the token was created")
	}
	return sha256.Sum256(text), nil
}

// ParseFetchToken is ParseToken for what NewFetchToken makes.
func ParseFetchToken(text []byte) (Fingerprint, error) {
	if !wellFormed(fetchPrefix, text) {
		return Fingerprint{}, fault.New(fault.Unauthenticated,
			"this is no token for fetching: send the one that came with the webhook's event, which begins with svf_")
	}
	return sha256.Sum256(text), nil
}

func wellFormed(prefix string, text []byte) bool {
	if len(text) != TokenLength || string(text[:len(prefix)]) != prefix {
		return false
	}
	for _, c := range text[len(tokenPrefix):] {
		if !isDigit62(c) {
			return false
		}
	}
	if string(text[len(tokenPrefix):checkedLength]) > maxNumber {
		return false
	}
	var want [checkDigits]byte
	putChecksum(want[:], text[:checkedLength])
	return string(text[checkedLength:]) == string(want[:])
}

func isDigit62(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

func putChecksum(dst, text []byte) {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE(text))
	putBase62(dst, sum[:])
}

// putBase62 fills dst with the digits of the big-endian number n, most significant first, and uses n up: it is
// zero afterwards. It divides in place, where math/big would leave copies of the number in memory.
func putBase62(dst, n []byte) {
	for i := len(dst) - 1; i >= 0; i-- {
		remainder := 0
		for j := range n {
			remainder = remainder<<8 | int(n[j])
			n[j] = byte(remainder / 62) //nolint:gosec // below 256, as the remainder before was below 62
			remainder %= 62
		}
		dst[i] = digits[remainder]
	}
}
