package access

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/sealkeep/sealkeep/internal/fault"
)

const (
	// maxForwardedHops bounds how many entries are looked at, from the right. Chains of proxies that are all
	// trusted are short; a longer one was made up.
	maxForwardedHops = 32
	// maxForwardedEntry bounds one entry in bytes, with its port and white space. The longest address with
	// brackets and a port has 53.
	maxForwardedEntry = 128
)

// ErrUnknownAddress says that the client address of a request can't be known, which denies (I4).
var ErrUnknownAddress = errors.New("access: the client address is unknown")

// The ways in which an address can't be known. The messages are public, and the same for whoever caused them.
var (
	errPeer      = unknownAddress("the peer of the connection has no IP address")
	errForwarded = unknownAddress("an entry of X-Forwarded-For is not an IP address")
	errTooLong   = unknownAddress("X-Forwarded-For names too many proxies")
	errNoClient  = unknownAddress("the request came through a trusted proxy, and X-Forwarded-For names no client: have the proxy add the address of its peer")
)

func unknownAddress(reason string) error {
	return fault.Wrap(fault.Denied, ErrUnknownAddress, "the client address is unknown: "+reason)
}

// AddressPolicy finds the address that a request counts as coming from. The zero value trusts no proxy. It is
// immutable, and safe for concurrent use.
type AddressPolicy struct {
	proxies Allowlist // empty unless proxies are trusted
}

// NewAddressPolicy makes the policy of VAULT_TRUST_PROXY and VAULT_TRUSTED_PROXIES, the latter read as
// ParseAllowlist reads its text. Trust without a list is an error: any client could then name any address. A list
// without trust is checked and has no effect. Errors are of kind Invalid.
func NewAddressPolicy(trustProxy bool, trustedProxies string, allowIPv6 bool) (AddressPolicy, error) {
	proxies, err := ParseAllowlist(trustedProxies, allowIPv6)
	if err != nil {
		return AddressPolicy{}, err
	}
	if !trustProxy {
		return AddressPolicy{}, nil
	}
	if proxies.IsEmpty() {
		return AddressPolicy{}, fault.New(fault.Invalid,
			"a proxy is trusted and none is listed: list the proxies' addresses in VAULT_TRUSTED_PROXIES, or set VAULT_TRUST_PROXY=false")
	}
	return AddressPolicy{proxies: proxies}, nil
}

// ClientAddress gives the address of the client: the TCP peer, unless that is a trusted proxy; then the right-most
// address in X-Forwarded-For that is not itself a trusted proxy. Proxies append on the right, so everything left
// of that was written by the client and is never looked at.
//
// remoteAddr is the peer as http.Request.RemoteAddr has it. forwardedFor holds the values of all X-Forwarded-For
// lines, in the order received. Entries are IPv4 or IPv6 addresses, bracketed or not, and IPv4 or bracketed IPv6
// ones may carry a port. IPv4-mapped addresses come back as IPv4. A peer's zone stays, and no list contains it; in
// an entry a zone is refused, as are quotes, words and empty entries.
//
// An entry that is refused before a client was found, a client beyond the 32 right-most entries, and a header that
// is absent or names trusted proxies alone, are errors of kind Denied that wrap ErrUnknownAddress. The peer's own
// address is no fallback: a proxy that forgets the header would lend its address to everyone behind it. The work
// is bounded, however long the header is.
func (p AddressPolicy) ClientAddress(remoteAddr string, forwardedFor []string) (netip.Addr, error) {
	peer, err := parsePeer(remoteAddr)
	if err != nil {
		return netip.Addr{}, err
	}
	if !p.proxies.Contains(peer) {
		return peer, nil
	}
	hops := 0
	for i := len(forwardedFor) - 1; i >= 0; i-- {
		line, more := forwardedFor[i], true
		for more {
			if hops++; hops > maxForwardedHops {
				return netip.Addr{}, errTooLong
			}
			var entry string
			line, entry, more = cutLastEntry(line)
			addr, err := parseForwarded(entry)
			if err != nil {
				return netip.Addr{}, err
			}
			if !p.proxies.Contains(addr) {
				return addr, nil
			}
		}
	}
	return netip.Addr{}, errNoClient
}

// parsePeer reads an address, with its port or without.
func parsePeer(remoteAddr string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(remoteAddr); err == nil {
		return unmap(ap.Addr()), nil
	}
	if addr, err := netip.ParseAddr(remoteAddr); err == nil {
		return unmap(addr), nil
	}
	return netip.Addr{}, errPeer
}

// unmap turns an IPv4-mapped address into IPv4, except that one with a zone, which netip would drop, stays.
func unmap(addr netip.Addr) netip.Addr {
	if addr.Zone() != "" {
		return addr
	}
	return addr.Unmap()
}

// cutLastEntry splits off what follows the last comma; more tells whether there was one. It looks at no more than
// the longest entry and gives one byte more than that if there is no comma in reach, which is then refused.
func cutLastEntry(line string) (rest, entry string, more bool) {
	from := max(0, len(line)-maxForwardedEntry-1)
	comma := strings.LastIndexByte(line[from:], ',')
	if comma < 0 {
		return "", line[from:], false
	}
	return line[:from+comma], line[from+comma+1:], true
}

// parseForwarded reads one entry of X-Forwarded-For.
func parseForwarded(entry string) (netip.Addr, error) {
	if len(entry) > maxForwardedEntry {
		return netip.Addr{}, errForwarded
	}
	entry = strings.Trim(entry, " \t")
	// A zone is free text of the sender's choosing and means nothing here.
	if strings.IndexByte(entry, '%') >= 0 {
		return netip.Addr{}, errForwarded
	}
	if addr, err := netip.ParseAddr(entry); err == nil {
		return addr.Unmap(), nil
	}
	if ap, err := netip.ParseAddrPort(entry); err == nil {
		return ap.Addr().Unmap(), nil
	}
	if n := len(entry); n > 2 && entry[0] == '[' && entry[n-1] == ']' {
		if addr, err := netip.ParseAddr(entry[1 : n-1]); err == nil && addr.Is6() {
			return addr.Unmap(), nil
		}
	}
	return netip.Addr{}, errForwarded
}
