package secret

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// maxETags bounds the list of one condition. A client that tracks one secret has one, rarely a few.
const maxETags = 64

const etagRule = `If-Match and If-None-Match take '*' or entity tags in double quotes, separated by commas; `

// ETag gives the strong entity tag of a version (RFC 9110, section 8.8.3): "<version>-<version_uid>", with its
// quotes, the uid as a lower-case UUID. A secret that was deleted and made anew under its name has other uids, so
// an old tag never matches it.
func ETag(version int64, uid [16]byte) string {
	var room [64]byte // every read makes one
	tag := strconv.AppendInt(append(room[:0], '"'), version, 10)
	for _, part := range [][]byte{uid[:4], uid[4:6], uid[6:8], uid[8:10], uid[10:]} { // RFC 9562, section 4
		tag = hex.AppendEncode(append(tag, '-'), part)
	}
	return string(append(tag, '"'))
}

// ParseETags reads the value of an If-Match or If-None-Match header (RFC 9110, sections 13.1.1 and 13.1.2), its
// lines joined by commas. "*" gives any; otherwise tags holds what was listed, in order, each as it was sent:
// with its quotes, and with W/ if it is weak. At most 64 tags.
//
// A header that lists nothing is an error of kind Invalid, like one that doesn't parse: taking it for no
// condition would let an update through that was meant to be guarded. So call this only if the header is there.
func ParseETags(header string) (tags []string, any bool, err error) {
	rest := trimOWS(header)
	if rest == "*" {
		return nil, true, nil
	}
	for rest != "" {
		if rest[0] == ',' { // empty elements are allowed (RFC 9110, section 5.6.1.2)
			rest = trimOWS(rest[1:])
			continue
		}
		n := etagLen(rest)
		if n == 0 {
			return nil, false, fault.New(fault.Invalid, etagRule+"send back the ETag as it was received, with its quotes")
		}
		if len(tags) == maxETags {
			return nil, false, fault.New(fault.Invalid, etagRule+"at most 64 of them")
		}
		tags = append(tags, rest[:n])
		rest = trimOWS(rest[n:])
		if rest != "" && rest[0] != ',' {
			return nil, false, fault.New(fault.Invalid, etagRule+"separate them by commas")
		}
	}
	if len(tags) == 0 {
		return nil, false, fault.New(fault.Invalid, etagRule+"the header is empty: leave it out, or send the ETag")
	}
	return tags, false, nil
}

// MatchesStrong tells whether tag is listed, by the strong comparison that If-Match uses: a weak tag matches
// nothing.
func MatchesStrong(tags []string, tag string) bool {
	return !strings.HasPrefix(tag, "W/") && slices.Contains(tags, tag)
}

// MatchesWeak tells whether tag is listed, by the weak comparison that If-None-Match uses: W/ makes no
// difference. Intermediaries that compress add it.
func MatchesWeak(tags []string, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	return slices.ContainsFunc(tags, func(t string) bool { return strings.TrimPrefix(t, "W/") == tag })
}

// etagLen gives the length of the entity tag at the beginning of s, or 0 if there is none.
func etagLen(s string) int {
	i := 0
	if strings.HasPrefix(s, "W/") {
		i = 2
	}
	if i >= len(s) || s[i] != '"' {
		return 0
	}
	for i++; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return i + 1
		case c < 0x21 || c == 0x7f:
			return 0
		}
	}
	return 0
}

func trimOWS(s string) string { return strings.Trim(s, " \t") }
