package webhook

import (
	"net/netip"
	"strings"
	"testing"
)

func TestI4_AddressesThatAreNotPublicHaveAClass(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ class, first, last string }{
		{"unspecified", "0.0.0.0", "0.255.255.255"},
		{"private", "10.0.0.0", "10.255.255.255"},
		{"carrier-grade NAT", "100.64.0.0", "100.127.255.255"},
		{"loopback", "127.0.0.0", "127.255.255.255"},
		{"link-local", "169.254.0.0", "169.254.255.255"},
		{"private", "172.16.0.0", "172.31.255.255"},
		{"reserved", "192.0.0.0", "192.0.0.255"},
		{"documentation", "192.0.2.0", "192.0.2.255"},
		{"reserved", "192.88.99.0", "192.88.99.255"},
		{"private", "192.168.0.0", "192.168.255.255"},
		{"benchmark", "198.18.0.0", "198.19.255.255"},
		{"documentation", "198.51.100.0", "198.51.100.255"},
		{"documentation", "203.0.113.0", "203.0.113.255"},
		{"multicast", "224.0.0.0", "239.255.255.255"},
		{"reserved", "240.0.0.0", "255.255.255.254"},
		{"broadcast", "255.255.255.255", "255.255.255.255"},
		{"cloud", "168.63.129.16", "168.63.129.16"},
		{"documentation", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"documentation", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"benchmark", "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff"},
		{"reserved", "2001:10::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"reserved", "4000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"private", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"link-local", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"private", "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"multicast", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"reserved", "::1:0:0:0", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"reserved", "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"},
		{"reserved", "100::", "100::ffff:ffff:ffff:ffff"},
		{"unspecified", "::", "::"},
		{"loopback", "::1", "::1"},
		{"reserved", "::2", "::ffff"},
		{"reserved", "::8.8.8.8", "::8.8.8.8"},
	} {
		for _, text := range []string{tc.first, tc.last} {
			if got := classOf(netip.MustParseAddr(text)); !strings.Contains(got, tc.class) {
				t.Errorf("%s is %q, want %s", text, got, tc.class)
			}
		}
	}
	for text, class := range map[string]string{ // what services of clouds are reached by
		"169.254.169.254": "link-local", "169.254.170.2": "link-local", "fd00:ec2::254": "private", "fd20:ce::254": "private",
		"100.100.100.200": "carrier-grade", "192.0.0.192": "reserved", "fe80::a9fe:a9fe%eth0": "link-local", "fe80::1%1": "link-local",
	} {
		if got := classOf(netip.MustParseAddr(text)); !strings.Contains(got, class) {
			t.Errorf("%s is %q, want %s", text, got, class)
		}
	}
	if classOf(netip.Addr{}) == "" {
		t.Error("no address is public")
	}
}

// The neighbours of every range are public: a range that is too wide would show here.
func TestI4_PublicAddressesPass(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"1.0.0.0", "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0",
		"192.0.1.255", "192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
		"198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
		"2000::", "2000:ffff::1", "2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", "2001:4860:4860::8888",
		"2003::", "2606:4700:4700::1111", "2a00:1450:4001::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::",
		"::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7", // the last is of 8.8.8.8 and 8.8.8.8
	} {
		if got := classOf(netip.MustParseAddr(text)); got != "" {
			t.Errorf("%s is %s", text, got)
		}
	}
}

// forms gives the IPv6 addresses that stand for an IPv4 one.
func forms(v4 [4]byte) map[string]netip.Addr {
	at := func(prefix string, offset int, flip byte) netip.Addr {
		b := netip.MustParseAddr(prefix).As16()
		for i, c := range v4 {
			b[offset+i] = c ^ flip
		}
		return netip.AddrFrom16(b)
	}
	return map[string]netip.Addr{
		"mapped": at("::ffff:0:0", 12, 0), "NAT64": at("64:ff9b::", 12, 0), "6to4": at("2002::1", 2, 0),
		"Teredo server": at("2001:0:808:808::f7f7:f7f7", 4, 0), "Teredo client": at("2001:0:808:808::f7f7:f7f7", 12, 0xff),
	}
}

func TestI4_EmbeddedAddressesAreJudgedThemselves(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"10.1.2.3", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "198.18.0.1",
	} {
		v4 := netip.MustParseAddr(text)
		for name, form := range forms(v4.As4()) {
			if got, want := classOf(form), classOf(v4); got != want || want == "" {
				t.Errorf("%s of %s, %s, is %q, want %q", name, v4, form, got, want)
			}
		}
		compatible := netip.AddrFrom16([16]byte(append(make([]byte, 12), v4.AsSlice()...)))
		if got := classOf(compatible); got == "" {
			t.Errorf("%s is public", compatible)
		}
	}
}

func TestI4_AllowedRangesAloneLetThrough(t *testing.T) {
	t.Parallel()
	g := guard{netip.MustParsePrefix("10.1.2.99/24"), netip.MustParsePrefix("fd00:1::/64"), netip.MustParsePrefix("fe80::/64")}
	for text, passes := range map[string]bool{
		"10.1.2.0:443": true, "10.1.2.255:443": true, "[::ffff:10.1.2.3]:443": true, "[fd00:1::1]:443": true, "[fe80::1%eth0]:443": true, "8.8.8.8:443": true,
		"10.1.1.255:443": false, "10.1.3.0:443": false, "[::ffff:10.1.3.0]:443": false, "[fd00:1:0:1::]:443": false, "[64:ff9b::10.1.2.3]:443": false,
		"[2002:a01:203::1]:443": false, "[fe80:0:0:1::1%eth0]:443": false, "127.0.0.1:443": false,
		"": false, "localhost:443": false, "10.1.2.3": false, "8.8.8.8": false, "/tmp/socket": false, "@abstract": false,
	} {
		if err := g.control(t.Context(), "tcp", text, nil); (err == nil) != passes {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzClassOf holds that the table's verdict doesn't depend on how an address is written, and that what isn't global unicast by
// the standard library's own account never passes.
func FuzzClassOf(f *testing.F) {
	for _, text := range []string{"127.0.0.1", "8.8.8.8", "::ffff:10.0.0.1", "2001:4860:4860::8888", "64:ff9b::a00:1", "2002:a00:1::"} {
		f.Add(netip.MustParseAddr(text).AsSlice())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		addr, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		class := classOf(addr)
		plain := addr.Unmap()
		if class == "" && (!plain.IsGlobalUnicast() || plain.IsPrivate() || plain.IsLoopback() || plain.IsLinkLocalUnicast() ||
			plain.IsMulticast() || plain.IsInterfaceLocalMulticast() || plain.IsUnspecified()) {
			t.Errorf("%s is public", addr)
		}
		if again := classOf(plain); again != class {
			t.Errorf("%s is %q, and %q when it is mapped", plain, again, class)
		}
		if addr.Is6() && !addr.Is4In6() && classOf(addr.WithZone("eth0")) != class {
			t.Errorf("%s is something else in a zone", addr)
		}
		if addr.Is4() {
			for name, form := range forms(addr.As4()) {
				if got := classOf(form); got != class {
					t.Errorf("%s is %q, and %q as %s", addr, class, got, name)
				}
			}
		}
		if g := (guard{netip.PrefixFrom(plain, plain.BitLen())}); g.refuses(addr) != "" {
			t.Errorf("%s is allowed, and refused", addr)
		}
	})
}
