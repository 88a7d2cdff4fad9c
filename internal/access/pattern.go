package access

import (
	"strings"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// MaxPatternBytes is the longest pattern, in bytes, its '*' included.
const MaxPatternBytes = secret.MaxNameBytes

// Pattern says which secrets a permission is for: one exact name, the beginning of names followed by '*', or "*"
// for all. A beginning may be cut anywhere: "app*" also matches "apple", "app/*" only what is below app.
type Pattern string

const patternRule = "paths are a secret's name, the beginning of names followed by '*' (such as app/*), or '*' alone, at most 255 bytes; "

// ParsePattern checks that some name could match. Errors are of kind Invalid and never repeat the input.
func ParsePattern(s string) (Pattern, error) {
	if s == "" || len(s) > MaxPatternBytes {
		return "", fault.New(fault.Invalid, patternRule+"this one is empty or longer")
	}
	prefix, isPrefix := strings.CutSuffix(s, "*")
	if strings.IndexByte(prefix, '*') >= 0 {
		return "", fault.New(fault.Invalid, patternRule+"this one has a '*' before its end")
	}
	var err error
	if isPrefix {
		err = secret.CheckPrefix(prefix)
	} else {
		_, err = secret.ParseName(s)
	}
	if err != nil {
		return "", fault.New(fault.Invalid, patternRule+fault.Message(err))
	}
	return Pattern(s), nil
}

// prefix gives what stands before a '*' at the end.
func (p Pattern) prefix() (prefix string, isPrefix bool) { return strings.CutSuffix(string(p), "*") }
