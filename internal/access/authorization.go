package access

import (
	"strings"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// maxCredential bounds what is taken from an Authorization header, in bytes. Our tokens have 53; longer ones are
// somebody else's and fail in ParseToken, but need not be copied at any length.
const maxCredential = 4096

// ParseAuthorization takes the token out of the values of all Authorization header lines: exactly one line, with
// the scheme Bearer in any case and one token (RFC 6750, section 2.1; RFC 9110, section 11.4). No line at all is
// no error, and the token is zero. The token is a copy that the caller releases; it is any bearer token, which
// ParseToken judges. Errors are of kind Unauthenticated.
func ParseAuthorization(header []string) (token sensitive.Bytes, err error) {
	if len(header) == 0 {
		return sensitive.Bytes{}, nil
	}
	if len(header) > 1 {
		return sensitive.Bytes{}, fault.New(fault.Unauthenticated, "send one Authorization header, not several")
	}
	scheme, credential, _ := strings.Cut(strings.Trim(header[0], " \t"), " ")
	credential = strings.TrimLeft(credential, " ")
	if !strings.EqualFold(scheme, "Bearer") || len(credential) > maxCredential || !isToken68(credential) {
		return sensitive.Bytes{}, fault.New(fault.Unauthenticated,
			"send the token as 'Authorization: Bearer svk_…': that scheme, one space, one token")
	}
	return sensitive.CopyString(credential), nil
}

// isToken68 tells whether s is one token68 of RFC 9110, section 11.2, which leaves no room for a second token,
// quotes or control characters.
func isToken68(s string) bool {
	body := strings.TrimRight(s, "=")
	if body == "" {
		return false
	}
	for i := range len(body) {
		if !isDigit62(body[i]) && strings.IndexByte("-._~+/", body[i]) < 0 {
			return false
		}
	}
	return true
}
