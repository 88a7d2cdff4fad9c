package access

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
)

const proxies = "10.0.0.0/8 172.16.0.1 2001:db8:ffff::/48"

func mustPolicy(t testing.TB, trust bool, list string) AddressPolicy {
	t.Helper()
	p, err := NewAddressPolicy(trust, list, true)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Each row is asked three times: with trust, where the peer is a proxy and the row says what comes out ("" is an
// unknown address); with trust, where the peer is anyone else; and without trust. The last two always give the peer.
func TestI4_ClientAddressMatrix(t *testing.T) {
	t.Parallel()
	const proxy, stranger = "10.0.0.1:4711", "203.0.113.99:4711"
	for claim, c := range map[string]struct {
		lines []string
		want  string
	}{
		// Absent and empty.
		"no header":              {nil, ""},
		"an empty header":        {[]string{""}, ""},
		"a header of spaces":     {[]string{" \t "}, ""},
		"a comma alone":          {[]string{","}, ""},
		"several empty headers":  {[]string{"", ""}, ""},
		"a comma after":          {[]string{"203.0.113.7,"}, ""},
		"a comma before":         {[]string{",203.0.113.7"}, "203.0.113.7"},
		"an empty line after":    {[]string{"203.0.113.7", ""}, ""},
		"an empty line before":   {[]string{"", "203.0.113.7"}, "203.0.113.7"},
		"an empty entry between": {[]string{"203.0.113.7, ,10.0.0.2"}, ""},

		// Who is the client.
		"one address":                                {[]string{"203.0.113.7"}, "203.0.113.7"},
		"the right-most of several":                  {[]string{"198.51.100.1, 198.51.100.2, 203.0.113.7"}, "203.0.113.7"},
		"an address that the client made up":         {[]string{"127.0.0.1, 203.0.113.7"}, "203.0.113.7"},
		"a proxy's address that the client made up":  {[]string{"10.0.0.9, 203.0.113.7"}, "203.0.113.7"},
		"trusted ones on the right are passed":       {[]string{"203.0.113.7, 10.0.0.2, 172.16.0.1"}, "203.0.113.7"},
		"a trusted one in the middle is not reached": {[]string{"198.51.100.1, 10.0.0.2, 203.0.113.7"}, "203.0.113.7"},
		"a trusted one in the middle is passed":      {[]string{"203.0.113.7, 10.0.0.2, 10.0.0.3"}, "203.0.113.7"},
		"an untrusted one between trusted ones":      {[]string{"10.0.0.2, 203.0.113.7, 10.0.0.3"}, "203.0.113.7"},
		"a neighbour of a trusted one is not":        {[]string{"203.0.113.7, 172.16.0.2"}, "172.16.0.2"},
		"one, and it is trusted":                     {[]string{"10.0.0.2"}, ""},
		"all trusted":                                {[]string{"10.0.0.2, 172.16.0.1", "10.0.0.3"}, ""},
		"the peer itself":                            {[]string{"10.0.0.1"}, ""},

		// Several lines.
		"the last line counts first":                    {[]string{"198.51.100.1", "203.0.113.7"}, "203.0.113.7"},
		"lines before it count when it is all trusted":  {[]string{"198.51.100.1", "203.0.113.7", "10.0.0.2, 10.0.0.3"}, "203.0.113.7"},
		"a list in an earlier line":                     {[]string{"198.51.100.1, 203.0.113.7, 10.0.0.4", "10.0.0.2"}, "203.0.113.7"},
		"garbage in a line that is not reached":         {[]string{"garbage", "203.0.113.7"}, "203.0.113.7"},
		"garbage in a line that is reached":             {[]string{"203.0.113.7, garbage", "10.0.0.2"}, ""},
		"garbage in the line after":                     {[]string{"203.0.113.7", "garbage"}, ""},
		"lines are joined by commas and not as a whole": {[]string{"203.0.113.", "7"}, ""},

		// Forms of addresses.
		"IPv6":                             {[]string{"2001:db8::7"}, "2001:db8::7"},
		"IPv6 in upper case and long":      {[]string{"2001:0DB8:0:0:0:0:0:7"}, "2001:db8::7"},
		"IPv6 in brackets":                 {[]string{"[2001:db8::7]"}, "2001:db8::7"},
		"IPv6 with a port":                 {[]string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		"IPv6 behind a trusted IPv6":       {[]string{"2001:db8::7, 2001:db8:ffff::1, [2001:db8:ffff::2]:1"}, "2001:db8::7"},
		"IPv4 with a port":                 {[]string{"203.0.113.7:4711"}, "203.0.113.7"},
		"IPv4 with port 0":                 {[]string{"203.0.113.7:0"}, "203.0.113.7"},
		"a trusted one with a port":        {[]string{"203.0.113.7:1, 10.0.0.2:65535"}, "203.0.113.7"},
		"a mapped client":                  {[]string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		"a mapped client in hexadecimal":   {[]string{"::ffff:cb00:7107"}, "203.0.113.7"},
		"a mapped client in brackets":      {[]string{"[::ffff:203.0.113.7]"}, "203.0.113.7"},
		"a mapped client with a port":      {[]string{"[::ffff:203.0.113.7]:4711"}, "203.0.113.7"},
		"a mapped proxy":                   {[]string{"203.0.113.7, ::ffff:10.0.0.2"}, "203.0.113.7"},
		"IPv6 that only looks like mapped": {[]string{"::cb00:7107"}, "::203.0.113.7"},
		"the loopback address":             {[]string{"127.0.0.1"}, "127.0.0.1"},
		"the unspecified address":          {[]string{"0.0.0.0"}, "0.0.0.0"},

		// Spaces.
		"spaces and tabs around":     {[]string{" \t203.0.113.7\t , \t10.0.0.2 "}, "203.0.113.7"},
		"no spaces":                  {[]string{"198.51.100.1,203.0.113.7,10.0.0.2"}, "203.0.113.7"},
		"spaces alone between":       {[]string{"198.51.100.1 203.0.113.7"}, ""},
		"a space within":             {[]string{"203.0. 113.7"}, ""},
		"a space before the port":    {[]string{"203.0.113.7 :80"}, ""},
		"a no-break space":           {[]string{"203.0.113.7\u00a0"}, ""},
		"a line break":               {[]string{"203.0.113.7\r\n"}, ""},
		"a NUL":                      {[]string{"203.0.113.7\x00"}, ""},
		"more spaces than is likely": {[]string{"203.0.113.7," + strings.Repeat(" ", 120) + "203.0.113.8"}, ""},

		// Garbage.
		"a word":                              {[]string{"garbage"}, ""},
		"unknown":                             {[]string{"203.0.113.7, unknown"}, ""},
		"an obfuscated identifier":            {[]string{"203.0.113.7, _hidden"}, ""},
		"garbage before a trusted one":        {[]string{"203.0.113.7, garbage, 10.0.0.2"}, ""},
		"garbage that is not reached":         {[]string{"garbage, 203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		"the syntax of Forwarded":             {[]string{"for=203.0.113.7"}, ""},
		"quotes":                              {[]string{`"203.0.113.7"`}, ""},
		"quoted brackets":                     {[]string{`"[2001:db8::7]:80"`}, ""},
		"a prefix":                            {[]string{"203.0.113.0/24"}, ""},
		"a short address":                     {[]string{"203.0.113"}, ""},
		"a number":                            {[]string{"3405803783"}, ""},
		"a hexadecimal address":               {[]string{"0xcb.0.0x71.7"}, ""},
		"leading zeros":                       {[]string{"203.000.113.007"}, ""},
		"a zone":                              {[]string{"fe80::7%eth0"}, ""},
		"a zone in brackets":                  {[]string{"[fe80::7%eth0]:80"}, ""},
		"a zone behind a mapped address":      {[]string{"::ffff:10.0.0.2%eth0"}, ""},
		"a zone that hides a list":            {[]string{"fe80::7%,203.0.113.7"}, "203.0.113.7"},
		"a port without a number":             {[]string{"203.0.113.7:"}, ""},
		"a port too big":                      {[]string{"203.0.113.7:65536"}, ""},
		"a port that is a word":               {[]string{"203.0.113.7:http"}, ""},
		"two ports":                           {[]string{"203.0.113.7:80:80"}, ""},
		"IPv4 in brackets":                    {[]string{"[203.0.113.7]"}, ""},
		"IPv4 in brackets with a port":        {[]string{"[203.0.113.7]:80"}, ""},
		"empty brackets":                      {[]string{"[]"}, ""},
		"an open bracket":                     {[]string{"[2001:db8::7"}, ""},
		"a closing bracket":                   {[]string{"2001:db8::7]"}, ""},
		"brackets twice":                      {[]string{"[[2001:db8::7]]"}, ""},
		"digits beyond ASCII":                 {[]string{"２０３.0.113.7"}, ""},
		"a semicolon":                         {[]string{"198.51.100.1;203.0.113.7"}, ""},
		"a long entry":                        {[]string{strings.Repeat("1", 129)}, ""},
		"a long entry with a good ending":     {[]string{strings.Repeat("x", 4000) + "203.0.113.7"}, ""},
		"a long entry that is not reached":    {[]string{strings.Repeat("x", 4000) + ",203.0.113.7"}, "203.0.113.7"},
		"31 trusted ones before the client":   {[]string{"203.0.113.7" + strings.Repeat(",10.0.0.2", 31)}, "203.0.113.7"},
		"32 trusted ones before the client":   {[]string{"203.0.113.7" + strings.Repeat(",10.0.0.2", 32)}, ""},
		"as many, one a line":                 {append([]string{"203.0.113.7"}, slices.Repeat([]string{"10.0.0.2"}, 32)...), ""},
		"a thousand addresses and the client": {[]string{strings.Repeat("10.0.0.2,", 1000) + "203.0.113.7"}, "203.0.113.7"},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()

			trusting := mustPolicy(t, true, proxies)
			addr, err := trusting.ClientAddress(proxy, c.lines)
			switch {
			case c.want == "" && (!errors.Is(err, ErrUnknownAddress) || addr.IsValid()):
				t.Errorf("with trust, from a proxy: %v, %v; want an unknown address", addr, err)
			case c.want == "":
				wantFault(t, err, fault.Denied, "the client address is unknown")
				if list := mustAllowlist(t, "0.0.0.0/0 ::/0", true); list.Contains(addr) {
					t.Error("what came with the error is listed")
				}
			case err != nil || addr != netip.MustParseAddr(c.want):
				t.Errorf("with trust, from a proxy: %v, %v; want %s", addr, err, c.want)
			}

			peer := netip.MustParseAddr("203.0.113.99")
			if addr, err := trusting.ClientAddress(stranger, c.lines); err != nil || addr != peer {
				t.Errorf("with trust, from a stranger: %v, %v; want the peer", addr, err)
			}
			for name, p := range map[string]AddressPolicy{"a list": mustPolicy(t, false, proxies), "no list": mustPolicy(t, false, ""), "nothing": {}} {
				if addr, err := p.ClientAddress(stranger, c.lines); err != nil || addr != peer {
					t.Errorf("without trust, with %s, from a stranger: %v, %v; want the peer", name, addr, err)
				}
				if addr, err := p.ClientAddress(proxy, c.lines); err != nil || addr != netip.MustParseAddr("10.0.0.1") {
					t.Errorf("without trust, with %s, from a proxy: %v, %v; want the peer", name, addr, err)
				}
			}
		})
	}
}

func TestI4_PeerForms(t *testing.T) {
	t.Parallel()
	trusting := mustPolicy(t, true, proxies)
	header := []string{"192.0.2.7"}
	for claim, c := range map[string]struct{ remote, want string }{
		"IPv4":                              {"203.0.113.7:80", "203.0.113.7"},
		"IPv6":                              {"[2001:db8::7]:80", "2001:db8::7"},
		"mapped IPv4":                       {"[::ffff:203.0.113.7]:80", "203.0.113.7"},
		"IPv4 without a port":               {"203.0.113.7", "203.0.113.7"},
		"IPv6 without a port":               {"2001:db8::7", "2001:db8::7"},
		"a proxy":                           {"10.1.2.3:80", "192.0.2.7"},
		"an IPv6 proxy":                     {"[2001:db8:ffff::1]:80", "192.0.2.7"},
		"a mapped proxy":                    {"[::ffff:10.1.2.3]:80", "192.0.2.7"},
		"a zone stays":                      {"[fe80::1%eth0]:80", "fe80::1%eth0"},
		"a mapped proxy with a zone is not": {"[::ffff:10.1.2.3%eth0]:80", "::ffff:10.1.2.3%eth0"},
		"nothing is unknown":                {"", ""},
		"a socket is unknown":               {"@", ""},
		"a path is unknown":                 {"/run/sealkeep.sock", ""},
		"a host name is unknown":            {"localhost:80", ""},
		"a port alone is unknown":           {":80", ""},
		"a bad port is unknown":             {"203.0.113.7:http", ""},
		"a list is unknown":                 {"203.0.113.7, 10.0.0.1", ""},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			addr, err := trusting.ClientAddress(c.remote, header)
			if c.want == "" {
				wantFault(t, err, fault.Denied, "the client address is unknown")
				if !errors.Is(err, ErrUnknownAddress) || addr.IsValid() {
					t.Errorf("got %v, %v", addr, err)
				}
				return
			}
			if err != nil || addr != netip.MustParseAddr(c.want) {
				t.Errorf("got %v, %v", addr, err)
			}
		})
	}

	t.Run("a peer with a zone is on no list", func(t *testing.T) {
		t.Parallel()
		addr, err := AddressPolicy{}.ClientAddress("[fe80::1%eth0]:80", nil)
		if err != nil || mustAllowlist(t, "::/0", true).Contains(addr) {
			t.Errorf("%v is listed, %v", addr, err)
		}
	})
}

func TestI4_NewAddressPolicyRefuses(t *testing.T) {
	t.Parallel()
	for claim, c := range map[string]struct {
		trust bool
		list  string
		ipv6  bool
		says  string
	}{
		"trust without a list":            {true, "", false, "list the proxies' addresses in VAULT_TRUSTED_PROXIES"},
		"trust in a list of nothing":      {true, " , ", false, "list the proxies' addresses in VAULT_TRUSTED_PROXIES"},
		"a list that does not parse":      {true, "10.0.0.1, nginx", false, "entry 2 is neither"},
		"the same, though it has no use":  {false, "10.0.0.1, nginx", false, "entry 2 is neither"},
		"IPv6 where it is not allowed":    {true, "10.0.0.1, ::1", false, "VAULT_ALLOW_IPV6=true"},
		"host bits in a prefix of theirs": {true, "10.0.0.1/8", false, "write 10.0.0.0/8"},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			p, err := NewAddressPolicy(c.trust, c.list, c.ipv6)
			wantFault(t, err, fault.Invalid, c.says)
			if addr, err := p.ClientAddress("10.0.0.1:80", []string{"203.0.113.7"}); err != nil || addr != netip.MustParseAddr("10.0.0.1") {
				t.Errorf("a policy that trusts came with the error: %v, %v", addr, err)
			}
		})
	}
}

func TestI11_AddressErrorsDoNotRepeatTheHeader(t *testing.T) {
	t.Parallel()
	p := mustPolicy(t, true, proxies)
	for _, line := range []string{"canary", "203.0.113.7:canary", "fe80::1%canary", "[canary]"} {
		if _, err := p.ClientAddress("10.0.0.1:80", []string{line}); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("got %v", err)
		}
	}
	if _, err := p.ClientAddress("canary", nil); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
}

func TestForwardedWorkIsBounded(t *testing.T) {
	t.Parallel()
	for _, line := range []string{strings.Repeat("x", 1<<20), strings.Repeat("x", 1<<19) + "," + strings.Repeat("x", 1<<19)} {
		if rest, entry, more := cutLastEntry(line); rest != "" || len(entry) != maxForwardedEntry+1 || more {
			t.Errorf("looked at %d bytes, %d are left", len(entry), len(rest))
		}
	}
	longest := strings.Repeat(" ", maxForwardedEntry-len("203.0.113.7")) + "203.0.113.7"
	if rest, entry, more := cutLastEntry("a," + longest); rest != "a" || entry != longest || !more {
		t.Errorf("the longest entry is cut to %d bytes", len(entry))
	}
	if addr, err := parseForwarded(longest); err != nil || addr != netip.MustParseAddr("203.0.113.7") {
		t.Errorf("the longest entry is %v, %v", addr, err)
	}
}

// It counts allocations, which the testing package forbids beside parallel tests.
func TestClientAddressAllocatesNothing(t *testing.T) {
	direct, trusting := AddressPolicy{}, mustPolicy(t, true, proxies)
	header := []string{"198.51.100.1, 2001:db8::7", "10.0.0.2, 10.0.0.3"}
	if n := testing.AllocsPerRun(100, func() {
		_, _ = direct.ClientAddress("203.0.113.7:80", header)
		_, _ = trusting.ClientAddress("[2001:db8::7]:80", header)
		_, _ = trusting.ClientAddress("10.0.0.1:80", header)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkClientAddress(b *testing.B) {
	p := mustPolicy(b, true, proxies)
	for name, lines := range map[string][]string{
		"usual":       {"203.0.113.7, 10.0.0.2"},
		"made to eat": {strings.Repeat("x", 1<<20), strings.Repeat("10.0.0.2,", 100_000) + "10.0.0.2"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, _ = p.ClientAddress("10.0.0.1:80", lines)
			}
		})
	}
}

func FuzzClientAddress(f *testing.F) {
	for _, header := range []string{
		"", "203.0.113.7", "203.0.113.7, 10.0.0.2", "garbage", "203.0.113.7\n10.0.0.2", "[2001:db8::7]:80", "::ffff:203.0.113.7", "fe80::1%eth0",
		"203.0.113.7:80, 10.0.0.2:80", ",", " , ", "10.0.0.2\n10.0.0.3", "\n203.0.113.7", strings.Repeat("10.0.0.2,", 40), strings.Repeat("x", 200) + ",203.0.113.7",
	} {
		f.Add("10.0.0.1:80", header)
		f.Add("203.0.113.99:80", header)
	}
	f.Add("@", "203.0.113.7")
	trusting, direct := mustPolicy(f, true, proxies), AddressPolicy{}
	f.Fuzz(func(t *testing.T, remote, header string) {
		lines := strings.Split(header, "\n")
		peer, peerErr := direct.ClientAddress(remote, lines)
		addr, err := trusting.ClientAddress(remote, lines)
		for _, e := range []error{peerErr, err} {
			if e != nil && (!errors.Is(e, ErrUnknownAddress) || fault.KindOf(e) != fault.Denied) {
				t.Fatalf("another error: %v", e)
			}
		}
		if err != nil {
			if addr.IsValid() {
				t.Fatalf("%v came with the error", addr)
			}
			return
		}
		if addr.Is4In6() && addr.Zone() == "" {
			t.Fatalf("%v is mapped", addr)
		}
		if !trusting.proxies.Contains(peer) {
			if addr != peer {
				t.Fatalf("the peer %v is no proxy and the address is %v", peer, addr)
			}
			return
		}
		if trusting.proxies.Contains(addr) || addr.Zone() != "" {
			t.Fatalf("%v is a proxy's, or has a zone", addr)
		}
		// What a client writes is on the left of what proxies add, and must change nothing.
		for _, forged := range []string{"127.0.0.1", "10.0.0.9", "garbage", ""} {
			again, err := trusting.ClientAddress(remote, slices.Concat([]string{forged}, lines))
			if err != nil || again != addr {
				t.Fatalf("a line %q before turns %v into %v, %v", forged, addr, again, err)
			}
			again, err = trusting.ClientAddress(remote, append([]string{fmt.Sprintf("%s,%s", forged, lines[0])}, lines[1:]...))
			if err != nil || again != addr {
				t.Fatalf("an entry %q before turns %v into %v, %v", forged, addr, again, err)
			}
		}
	})
}
