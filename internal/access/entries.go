package access

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// maxProblems bounds the error for a file that isn't an address list at all.
const maxProblems = 32

// parseEntries reads a list of addresses and prefixes, and reports all that is wrong with it at once.
func parseEntries(text string, allowIPv6 bool) ([]netip.Prefix, error) {
	var (
		prefixes []netip.Prefix
		problems []string
		wrong    int
	)
	isSeparator := func(r rune) bool { return r == ',' || unicode.IsSpace(r) }
	for i, entry := range strings.FieldsFunc(text, isSeparator) {
		p, problem := parseEntry(entry, allowIPv6)
		if problem == "" {
			prefixes = append(prefixes, p)
			continue
		}
		wrong++
		if len(problems) < maxProblems {
			problems = append(problems, fmt.Sprintf("entry %d%s %s", i+1, echo(entry), problem))
		}
	}
	if wrong == 0 {
		return prefixes, nil
	}
	if more := wrong - len(problems); more > 0 {
		problems = append(problems, fmt.Sprintf("and %d more", more))
	}
	return nil, fault.New(fault.Invalid, strings.Join(problems, "; "))
}

// parseEntry gives the addresses of one entry, or what is wrong with it.
func parseEntry(entry string, allowIPv6 bool) (netip.Prefix, string) {
	addr, err := netip.ParseAddr(entry)
	if err == nil {
		if problem := addrProblem(addr, addr.BitLen(), allowIPv6); problem != "" {
			return netip.Prefix{}, problem
		}
		return netip.PrefixFrom(addr, addr.BitLen()), ""
	}
	prefix, err := netip.ParsePrefix(entry)
	if err != nil {
		return netip.Prefix{}, malformed(entry)
	}
	if problem := addrProblem(prefix.Addr(), prefix.Bits(), allowIPv6); problem != "" {
		return netip.Prefix{}, problem
	}
	if whole := prefix.Masked(); whole != prefix {
		return netip.Prefix{}, fmt.Sprintf("sets bits beyond its prefix length: write %s, or %s for the one address", whole, prefix.Addr())
	}
	return prefix, ""
}

func addrProblem(addr netip.Addr, bits int, allowIPv6 bool) string {
	switch {
	case addr.Zone() != "":
		return "has a zone: list addresses without one"
	case addr.Is4In6() && bits == 128:
		return fmt.Sprintf("is an IPv4 address written as IPv6: write %s", addr.Unmap())
	case addr.Is4In6() && bits >= 96:
		return fmt.Sprintf("is an IPv4 prefix written as IPv6: write %s", netip.PrefixFrom(addr.Unmap(), bits-96).Masked())
	case addr.Is6() && !allowIPv6:
		return "is IPv6, which is denied: remove it, or admit IPv6 with VAULT_ALLOW_IPV6=true"
	}
	return ""
}

// malformed tells the likely mistake in an entry that is neither an address nor a prefix.
func malformed(entry string) string {
	if _, err := netip.ParseAddrPort(entry); err == nil {
		return "has a port: leave the port out"
	}
	return "is neither an IP address nor a CIDR prefix such as 10.0.0.0/8: host names, ranges and netmasks are not understood, and numbers have no leading zeros"
}

// echo repeats an entry that can only be a mistyped address. Anything else might be a secret in the wrong variable.
func echo(entry string) string {
	const longest = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128")
	looksLikeAddress := len(entry) <= longest && strings.ContainsAny(entry, ".:") &&
		strings.IndexFunc(entry, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF.:/[]", r) }) < 0
	if !looksLikeAddress {
		return ""
	}
	return " (" + entry + ")"
}
