package access

import (
	"strings"

	"github.com/sealkeep/sealkeep/internal/fault"
)

const entityNameRule = "names of roles and tokens are 1 to 64 bytes of letters, digits, '.', '_' and '-', beginning with a letter or digit"

// ParseEntityName checks the name of a role or token: 1 to 64 bytes of [A-Za-z0-9._-], of which the first is a
// letter or digit. Errors are of kind Invalid and never repeat the input.
func ParseEntityName(s string) (string, error) {
	ok := len(s) >= 1 && len(s) <= 64 && isDigit62(s[0])
	for i := 0; ok && i < len(s); i++ {
		ok = isDigit62(s[i]) || strings.IndexByte("._-", s[i]) >= 0
	}
	if !ok {
		return "", fault.New(fault.Invalid, entityNameRule)
	}
	return s, nil
}
