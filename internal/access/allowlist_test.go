package access

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func mustAllowlist(t testing.TB, text string, allowIPv6 bool) Allowlist {
	t.Helper()
	list, err := ParseAllowlist(text, allowIPv6)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestI4_EmptyAllowlistDeniesEveryone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", " ", ",", " ,\t\n, "} {
		for _, list := range []Allowlist{{}, mustAllowlist(t, text, false), mustAllowlist(t, text, true)} {
			if !list.IsEmpty() {
				t.Errorf("%q is not empty", text)
			}
			for _, addr := range []string{"0.0.0.0", "127.0.0.1", "10.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1"} {
				if list.Contains(netip.MustParseAddr(addr)) {
					t.Errorf("%q contains %s", text, addr)
				}
			}
		}
	}
}

func TestAllowlistContains(t *testing.T) {
	t.Parallel()
	for claim, c := range map[string]struct {
		text    string
		ipv6    bool
		in, out []string
	}{
		"one address is that address": {
			"192.0.2.7", false,
			[]string{"192.0.2.7"},
			[]string{"192.0.2.6", "192.0.2.8", "0.0.0.0", "255.255.255.255", "::c000:207"},
		},
		"a prefix is all of its addresses and no more": {
			"10.20.0.0/15", false,
			[]string{"10.20.0.0", "10.20.0.1", "10.21.255.255"},
			[]string{"10.19.255.255", "10.22.0.0"},
		},
		"a prefix that ends within a byte": {
			"192.0.2.64/27", false,
			[]string{"192.0.2.64", "192.0.2.95"},
			[]string{"192.0.2.63", "192.0.2.96"},
		},
		"the prefix of all is all of IPv4": {
			"0.0.0.0/0", false,
			[]string{"0.0.0.0", "127.0.0.1", "255.255.255.255", "::ffff:1.2.3.4"},
			[]string{"::", "::1", "2001:db8::1"},
		},
		"a prefix of full length is one address": {
			"192.0.2.7/32, 2001:db8::7/128", true,
			[]string{"192.0.2.7", "2001:db8::7"},
			[]string{"192.0.2.6", "192.0.2.8", "2001:db8::6", "2001:db8::8"},
		},
		"commas and any white space separate": {
			"192.0.2.1,192.0.2.2 192.0.2.3\t192.0.2.4\n192.0.2.5\r\n,, 192.0.2.6,", false,
			[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"},
			[]string{"192.0.2.0", "192.0.2.7"},
		},
		"order, doubles, overlaps and nesting make no difference": {
			"192.0.2.200 10.0.0.0/8 10.1.0.0/16 192.0.2.0/25 192.0.2.128/25 10.1.2.3 192.0.2.200 11.0.0.0/8 10.255.0.0/16", false,
			[]string{"10.0.0.0", "10.1.2.3", "10.254.0.1", "10.255.255.255", "11.255.255.255", "192.0.2.0", "192.0.2.127", "192.0.2.128", "192.0.2.255"},
			[]string{"9.255.255.255", "12.0.0.0", "192.0.1.255", "192.0.3.0"},
		},
		"of two that begin alike the longer counts, in either order": {
			"10.0.0.0 10.0.0.0/16 10.0.0.0/8 192.0.2.0/24 192.0.2.0/25 192.0.2.0", false,
			[]string{"10.0.0.0", "10.0.0.1", "10.1.0.0", "10.255.255.255", "192.0.2.1", "192.0.2.255"},
			[]string{"9.255.255.255", "11.0.0.0", "192.0.3.0"},
		},
		"the last address of all is found": {
			"255.255.255.255, 255.0.0.0/8", false,
			[]string{"255.255.255.255", "255.0.0.0"},
			[]string{"254.255.255.255"},
		},
		"an IPv4-mapped client counts as IPv4": {
			"192.0.2.7", false,
			[]string{"::ffff:192.0.2.7", "::ffff:c000:207"},
			[]string{"::ffff:192.0.2.8", "::192.0.2.7", "64:ff9b::192.0.2.7"},
		},
		"an IPv4 entry admits no IPv6 client": {
			"0.0.0.0/0, 127.0.0.1", true,
			[]string{"127.0.0.1"},
			[]string{"::1", "::", "::7f00:1", "2001:db8::1"},
		},
		"IPv6 is admitted where it is allowed": {
			"2001:db8::/33 ::1", true,
			[]string{"2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff", "::1"},
			[]string{"2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8:8000::", "::", "::2", "0.0.0.1"},
		},
		"an IPv6 prefix admits no IPv4 client, not even a mapped one": {
			"::/0", true,
			[]string{"::", "::1", "fe80::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
			[]string{"0.0.0.0", "127.0.0.1", "255.255.255.255", "::ffff:127.0.0.1"},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			list := mustAllowlist(t, c.text, c.ipv6)
			for _, addr := range c.in {
				if !list.Contains(netip.MustParseAddr(addr)) {
					t.Errorf("%s is denied", addr)
				}
			}
			for _, addr := range c.out {
				if list.Contains(netip.MustParseAddr(addr)) {
					t.Errorf("%s is admitted", addr)
				}
			}
		})
	}
}

func TestI4_UnknownAddressIsDenied(t *testing.T) {
	t.Parallel()
	everyone := mustAllowlist(t, "0.0.0.0/0 ::/0", true)

	t.Run("the zero address is", func(t *testing.T) {
		t.Parallel()
		if everyone.Contains(netip.Addr{}) {
			t.Error("admitted")
		}
	})
	t.Run("an address with a zone is, a mapped one too", func(t *testing.T) {
		t.Parallel()
		for _, addr := range []string{"fe80::1%eth0", "::1%1", "::ffff:127.0.0.1%eth0"} {
			if everyone.Contains(netip.MustParseAddr(addr)) {
				t.Errorf("%s is admitted", addr)
			}
		}
		if !everyone.Contains(netip.MustParseAddr("fe80::1")) {
			t.Error("the same without a zone is denied: the test proves nothing")
		}
	})
}

func TestI4_UnparseableAllowlistIsRefused(t *testing.T) {
	t.Parallel()
	for claim, c := range map[string]struct {
		text string
		ipv6 bool
		says string
	}{
		"a host name":                         {"localhost", false, "entry 1 is neither an IP address nor a CIDR prefix"},
		"a star":                              {"*", false, "entry 1 is neither"},
		"a short address":                     {"10.0.0", false, "entry 1 (10.0.0) is neither"},
		"a long address":                      {"10.0.0.0.1", false, "entry 1 (10.0.0.0.1) is neither"},
		"a number too big":                    {"10.0.0.256", false, "entry 1 (10.0.0.256) is neither"},
		"leading zeros, which may mean octal": {"010.0.0.1", false, "no leading zeros"},
		"a range":                             {"10.0.0.1-10.0.0.9", false, "ranges"},
		"a netmask":                           {"10.0.0.0/255.0.0.0", false, "netmasks"},
		"a prefix length too big":             {"10.0.0.0/33", false, "entry 1 (10.0.0.0/33) is neither"},
		"a negative prefix length":            {"10.0.0.0/-1", false, "entry 1 is neither"},
		"an open prefix":                      {"10.0.0.0/", false, "entry 1 (10.0.0.0/) is neither"},
		"a prefix length with zeros":          {"10.0.0.0/08", false, "no leading zeros"},
		"a port":                              {"10.0.0.1:8200", false, "leave the port out"},
		"a port behind brackets":              {"[2001:db8::1]:8200", true, "leave the port out"},
		"brackets":                            {"[2001:db8::1]", true, "entry 1 ([2001:db8::1]) is neither"},
		"quotes":                              {`"10.0.0.1"`, false, "entry 1 is neither"},
		"a semicolon between":                 {"10.0.0.1;10.0.0.2", false, "entry 1 is neither"},
		"digits beyond ASCII":                 {"１０.0.0.1", false, "entry 1 is neither"},
		"host bits":                           {"10.0.0.1/8", false, "entry 1 (10.0.0.1/8) sets bits beyond its prefix length: write 10.0.0.0/8, or 10.0.0.1 for"},
		"host bits in IPv6":                   {"2001:db8::1/32", true, "write 2001:db8::/32, or 2001:db8::1 for"},
		"an IPv6 address where it is not allowed": {"2001:db8::1", false, "VAULT_ALLOW_IPV6=true"},
		"an IPv6 prefix where it is not allowed":  {"::/0", false, "VAULT_ALLOW_IPV6=true"},
		"a zone":                                  {"fe80::1%eth0", true, "without one"},
		"a mapped address":                        {"::ffff:10.0.0.1", true, "write 10.0.0.1"},
		"a mapped address without IPv6":           {"::ffff:a00:1", false, "write 10.0.0.1"},
		"a mapped prefix":                         {"::ffff:10.0.0.0/104", true, "write 10.0.0.0/8"},
		"a mapped prefix with host bits":          {"::ffff:10.1.0.0/104", false, "write 10.0.0.0/8"},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			list, err := ParseAllowlist(c.text, c.ipv6)
			wantFault(t, err, fault.Invalid, c.says)
			if !list.IsEmpty() {
				t.Error("a list came with the error")
			}
		})
	}

	t.Run("one bad entry refuses the whole list", func(t *testing.T) {
		t.Parallel()
		list, err := ParseAllowlist("10.0.0.0/8, nonsense, 192.0.2.1", false)
		wantFault(t, err, fault.Invalid, "entry 2 is neither")
		if list.Contains(netip.MustParseAddr("10.0.0.1")) {
			t.Error("the good entries count")
		}
	})

	t.Run("all problems are reported at once", func(t *testing.T) {
		t.Parallel()
		_, err := ParseAllowlist("10.0.0.1/8, 192.0.2.1, ::1, localhost", false)
		message := wantFault(t, err, fault.Invalid, "entry 1 (10.0.0.1/8) sets", "entry 3 (::1) is IPv6", "entry 4 is neither")
		if strings.Contains(message, "entry 2") {
			t.Errorf("a good entry is reported: %s", message)
		}
	})

	t.Run("the report of a file of something else is bounded", func(t *testing.T) {
		t.Parallel()
		_, err := ParseAllowlist(strings.Repeat("word ", 100_000), false)
		message := wantFault(t, err, fault.Invalid, "entry 32 ", "and 99968 more")
		if len(message) > 10_000 {
			t.Errorf("%d bytes", len(message))
		}
	})

	t.Run("I11 a secret in the wrong variable is not repeated", func(t *testing.T) {
		t.Parallel()
		for _, s := range []string{"hunter2canary", "svk_canary", "postgres://canary:canary@10.0.0.1/", "cafebabe" + strings.Repeat(".", 99)} {
			if _, err := ParseAllowlist("10.0.0.1 "+s, false); err == nil || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "cafebabe") {
				t.Errorf("got %v", err)
			}
		}
	})
}

// It counts allocations, which the testing package forbids beside parallel tests.
func TestPrefixesAreTheEntriesOfAList(t *testing.T) {
	t.Parallel()
	got, err := ParsePrefixes(" 10.1.2.0/24, 10.1.2.3\tfd00:1::/64,::1 ,0.0.0.0/0")
	if want := "[10.1.2.0/24 10.1.2.3/32 fd00:1::/64 ::1/128 0.0.0.0/0]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v, want %s", got, err, want)
	}
	if got, err := ParsePrefixes(" , "); err != nil || len(got) != 0 {
		t.Errorf("an empty list is %v, %v", got, err)
	}
	for _, text := range []string{"10.1.2.3/24", "example.org", "::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "fe80::1%eth0", "10.0.0.1:80", "10.0.0.0/33"} {
		if got, err := ParsePrefixes("10.0.0.1 " + text); fault.KindOf(err) != fault.Invalid || got != nil || !strings.Contains(err.Error(), "entry 2") {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
}

func TestAllowlistContainsAllocatesNothing(t *testing.T) {
	list := bigAllowlist(t)
	addrs := []netip.Addr{
		netip.MustParseAddr("10.7.7.7"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:10.7.7.7"),
		netip.MustParseAddr("2001:db8:7::1"), netip.MustParseAddr("fe80::1%eth0"),
		{},
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, addr := range addrs {
			list.Contains(addr)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// bigAllowlist has 10,000 entries that can't be merged.
func bigAllowlist(t testing.TB) Allowlist {
	var text strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&text, "10.%d.%d.0/25\n2001:db8:%x::/48\n", i/256, i%256, i)
	}
	list := mustAllowlist(t, text.String(), true)
	if len(list.spans) != 10_000 {
		t.Fatalf("%d spans", len(list.spans))
	}
	return list
}

func BenchmarkAllowlistContains(b *testing.B) {
	list, addr := bigAllowlist(b), netip.MustParseAddr("10.9.9.9")
	for b.Loop() {
		list.Contains(addr)
	}
}

func FuzzParseAllowlist(f *testing.F) {
	for _, text := range []string{
		"", "10.0.0.0/8", "10.0.0.1,192.0.2.0/24 ::1", "10.0.0.1/8", "localhost", "::ffff:1.2.3.4", "::ffff:0:0/96", "::/0 0.0.0.0/0",
		"fe80::1%eth0", "10.0.0.1:80", "010.0.0.1", "255.255.255.255 255.255.255.255/32", "2001:db8::/33", ",,\n\u00a0,",
	} {
		f.Add(text, "10.0.0.1", true)
		f.Add(text, "::ffff:10.0.0.1", false)
	}
	f.Fuzz(func(t *testing.T, text, client string, allowIPv6 bool) {
		list, err := ParseAllowlist(text, allowIPv6)
		if err != nil {
			wantFault(t, err, fault.Invalid, "entry ")
			if !list.IsEmpty() {
				t.Fatal("a list came with the error")
			}
			return
		}
		addr, err := netip.ParseAddr(client)
		if err != nil {
			return
		}
		// The same question, asked of each entry by the standard library.
		want := false
		for entry := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || strings.TrimSpace(string(r)) == "" }) {
			prefix, err := netip.ParsePrefix(entry)
			if err != nil {
				one := netip.MustParseAddr(entry)
				prefix = netip.PrefixFrom(one, one.BitLen())
			}
			if prefix.Addr().Is6() && !allowIPv6 {
				t.Fatalf("%q is accepted without IPv6", entry)
			}
			want = want || prefix.Contains(addr.Unmap())
		}
		if want = want && addr.Zone() == ""; list.Contains(addr) != want {
			t.Fatalf("%q contains %s: want %v", text, addr, want)
		}
	})
}
