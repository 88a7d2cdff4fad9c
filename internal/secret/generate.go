package secret

import (
	"encoding/base64"
	"io"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// generatedBits is the strength of a generated value; 256 random bits are 43 characters.
const generatedBits = 256

// GenerateValue makes the value or password of an automatic secret: 256 bits from random, as 43 characters of
// base64url without padding (RFC 4648, section 5), which need no quoting in a URL, a shell or a DSN. A nil
// random is randomness.Reader. A source that fails or ends early is an error of kind Internal, never a weaker
// value. The caller releases the result.
func GenerateValue(random io.Reader) (sensitive.Bytes, error) {
	if random == nil {
		random = randomness.Reader
	}
	var raw [generatedBits / 8]byte
	defer sensitive.Zero(raw[:])
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return sensitive.Bytes{}, fault.Wrap(fault.Internal, err, "")
	}
	text := make([]byte, base64.RawURLEncoding.EncodedLen(len(raw)))
	base64.RawURLEncoding.Encode(text, raw[:])
	return sensitive.Take(text), nil
}
