package webhook

import (
	"context"
	"encoding/binary"
	"net/netip"
	"syscall"
)

const allowedSetting = "VAULT_ROTATION_WEBHOOK_ALLOWED_IPS"

// special are the ranges that aren't the public Internet's, most particular first, after the IANA's registries of special-purpose
// addresses. For IPv6 the rest of what isn't global unicast is refused as well; see classOf.
var special = []struct {
	prefix netip.Prefix
	class  string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "an unspecified address"},
	{netip.MustParsePrefix("10.0.0.0/8"), "a private address"},
	{netip.MustParsePrefix("100.64.0.0/10"), "an address shared behind carrier-grade NAT"},
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("168.63.129.16/32"), "an address at which a cloud serves its machines"}, // Azure's, in a public range
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address, where clouds serve credentials"},
	{netip.MustParsePrefix("172.16.0.0/12"), "a private address"},
	{netip.MustParsePrefix("192.0.0.0/24"), "a reserved address"},
	{netip.MustParsePrefix("192.0.2.0/24"), "an address for documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "a reserved address"}, // relays of 6to4, which are no more
	{netip.MustParsePrefix("192.168.0.0/16"), "a private address"},
	{netip.MustParsePrefix("198.18.0.0/15"), "an address for benchmarks"},
	{netip.MustParsePrefix("198.51.100.0/24"), "an address for documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "an address for documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("255.255.255.255/32"), "the broadcast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved address"},

	{netip.MustParsePrefix("::/128"), "an unspecified address"},
	{netip.MustParsePrefix("::1/128"), "a loopback address"},
	{netip.MustParsePrefix("2001::/32"), ""}, // Teredo, which is judged by what it embeds
	{netip.MustParsePrefix("2001:2::/48"), "an address for benchmarks"},
	{netip.MustParsePrefix("2001::/23"), "a reserved address"},
	{netip.MustParsePrefix("2001:db8::/32"), "an address for documentation"},
	{netip.MustParsePrefix("3fff::/20"), "an address for documentation"},
	{netip.MustParsePrefix("64:ff9b::/96"), ""}, // NAT64 likewise
	{netip.MustParsePrefix("fc00::/7"), "a private address"},
	{netip.MustParsePrefix("fec0::/10"), "a private address"}, // site-local, which is no more
	{netip.MustParsePrefix("fe80::/10"), "a link-local address, where clouds serve credentials"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
}

// globalUnicast is all that has been given out of IPv6.
var globalUnicast = netip.MustParsePrefix("2000::/3")

// classOf says what an address is if it isn't a public one, and "" if it is.
func classOf(addr netip.Addr) string {
	addr = addr.WithZone("").Unmap()
	if !addr.IsValid() {
		return "no address"
	}
	for _, inner := range embedded(addr) {
		if class := classOf(inner); class != "" {
			return class
		}
	}
	for _, s := range special {
		if s.prefix.Contains(addr) {
			return s.class
		}
	}
	if addr.Is6() && !globalUnicast.Contains(addr) {
		return "a reserved address"
	}
	return ""
}

var (
	compatible = netip.MustParsePrefix("::/96")        // RFC 4291, 2.5.5.1; obsolete
	nat64      = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052, 2.1
	sixToFour  = netip.MustParsePrefix("2002::/16")    // RFC 3056, 2
	teredo     = netip.MustParsePrefix("2001::/32")    // RFC 4380, 4: of the server, and of the client with its bits turned over
)

// embedded gives the IPv4 addresses that an IPv6 address stands for. ::, ::1 and their like are themselves.
func embedded(addr netip.Addr) []netip.Addr {
	if !addr.Is6() {
		return nil
	}
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[12:]))}
	case compatible.Contains(addr) && binary.BigEndian.Uint32(b[12:]) > 0xffff:
		return []netip.Addr{netip.AddrFrom4([4]byte(b[12:]))}
	case sixToFour.Contains(addr):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	case teredo.Contains(addr):
		return []netip.Addr{
			netip.AddrFrom4([4]byte(b[4:8])),
			netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}),
		}
	}
	return nil
}

// guard is what lies between a name's addresses and a connection. It holds the ranges that are let through.
type guard []netip.Prefix

// refusedAddress says what kind of address a connection was refused to.
type refusedAddress struct{ class string }

func (e *refusedAddress) Error() string { return "webhook: it is " + e.class }

// control is called by the dialer between the making of a socket and its connection, with the address that it connects to.
func (g guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return &refusedAddress{"no address"}
	}
	if class := g.refuses(to.Addr()); class != "" {
		return &refusedAddress{class}
	}
	return nil
}

// refuses gives the class of an address that may not be reached, or "".
func (g guard) refuses(addr netip.Addr) string {
	class := classOf(addr)
	if class == "" {
		return ""
	}
	addr = addr.WithZone("").Unmap()
	for _, p := range g {
		if p.Contains(addr) {
			return ""
		}
	}
	return class
}
