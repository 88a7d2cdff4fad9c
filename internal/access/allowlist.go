// Package access decides: which client address a request has, whether that address is listed, what a token looks
// like, and what a role allows. It knows neither HTTP frameworks nor SQL, keeps no state and does no I/O, so each
// decision is a function of its arguments, and every zero value denies.
//
// Invariants:
//
//	I4   An empty allowlist, an address that is unknown or carries a zone, a forwarded entry that does not
//	     parse, an action or a path that does not parse: each denies.
//	I11  Errors hold no token and no part of one, and no text of a request.
//	I12  Fingerprints are compared in constant time.
//
// Allowlist.Contains, AddressPolicy.ClientAddress without a proxy, Rules.Allows and Rules.AllowsAny run for every
// request: they work on what was parsed at start and allocate nothing.
package access

import (
	"net/netip"
	"slices"
	"sort"
)

// Allowlist is a set of client addresses. The zero value is empty and denies everyone. It is immutable, and safe
// for concurrent use.
type Allowlist struct {
	// spans is sorted and without overlaps, IPv4 before IPv6, so that a search looks at log2(n) of them.
	spans []span
}

// span is the addresses from first to last, both included, of one family.
type span struct{ first, last netip.Addr }

// ParseAllowlist reads addresses and CIDR prefixes that are separated by commas or white space. An empty text is
// no error and gives an empty list, which denies. IPv6 entries are refused unless allowIPv6; IPv4 is always
// written as IPv4, and an IPv6 prefix that spans ::ffff:0:0/96 doesn't admit IPv4 clients. A prefix has no bits
// set beyond its length. The error, of kind Invalid, names all entries that are wrong, by position, and how to
// correct them; it repeats an entry only if that has the characters of an address.
func ParseAllowlist(text string, allowIPv6 bool) (Allowlist, error) {
	prefixes, err := parseEntries(text, allowIPv6)
	if err != nil {
		return Allowlist{}, err
	}
	spans := make([]span, len(prefixes))
	for i, p := range prefixes {
		spans[i] = spanOf(p)
	}
	return Allowlist{spans: mergeSpans(spans)}, nil
}

// ParsePrefixes reads a list as ParseAllowlist does, IPv6 entries too, and gives it as prefixes, one for each entry in its order: an
// address is one of its full length, and IPv4 is IPv4.
func ParsePrefixes(text string) ([]netip.Prefix, error) { return parseEntries(text, true) }

// Contains tells whether addr is listed. An IPv4-mapped IPv6 address counts as its IPv4 address. The zero Addr and
// an address with a zone are never listed: what a zone means differs from host to host.
func (a Allowlist) Contains(addr netip.Addr) bool {
	// The zone first: unmapping would drop it.
	if !addr.IsValid() || addr.Zone() != "" {
		return false
	}
	addr = addr.Unmap()
	after := sort.Search(len(a.spans), func(i int) bool { return addr.Less(a.spans[i].first) })
	return after > 0 && !a.spans[after-1].last.Less(addr)
}

// IsEmpty tells whether the list admits nobody, which is worth a warning at start.
func (a Allowlist) IsEmpty() bool { return len(a.spans) == 0 }

// mergeSpans sorts, and joins what overlaps.
func mergeSpans(spans []span) []span {
	slices.SortFunc(spans, func(x, y span) int { return x.first.Compare(y.first) })
	merged := spans[:0]
	for _, s := range spans {
		// Addresses of different families never overlap: all of IPv4 sorts before all of IPv6.
		if n := len(merged); n > 0 && !merged[n-1].last.Less(s.first) {
			if merged[n-1].last.Less(s.last) {
				merged[n-1].last = s.last
			}
			continue
		}
		merged = append(merged, s)
	}
	return slices.Clip(merged)
}

// spanOf gives the addresses of a prefix without host bits.
func spanOf(p netip.Prefix) span {
	raw := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(raw)
	return span{first: p.Addr(), last: last}
}
