package secret

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/internal/fault"
)

const (
	// MaxLoginHosts is the most hosts that a login secret may be sent to.
	MaxLoginHosts = 64

	postgresPort = "5432"
	maxHostBytes = 253 // RFC 1035, section 2.3.4, without the root
	maxLabel     = 63
)

const hostRule = "hosts are a name or an address with an optional ':port', like db-1.example.com:5432, 10.0.0.7 or [2001:db8::7]:5432; "

// ParseHost gives the one form of a PostgreSQL server's "host:port": a name in lower case, or an address as netip writes it, IPv6 in
// brackets and without a zone, IPv4 that came mapped into IPv6 as IPv4; and the port, 5432 if there is none. Two different results
// can still be one machine, but one host and port never has two. Errors are of kind Invalid and never repeat the input.
func ParseHost(s string) (string, error) {
	host, problem := parseHost(s, postgresPort)
	if problem != "" {
		return "", fault.New(fault.Invalid, hostRule+problem)
	}
	return host, nil
}

// CanonicalHosts gives the one form of a set of hosts: each as ParseHost gives it, sorted, none of them twice; nil for none. It
// takes at most MaxLoginHosts. Errors are of kind Invalid and never repeat the input.
func CanonicalHosts(hosts []string) ([]string, error) {
	if problem := loginHostsProblem(hosts); problem != "" {
		return nil, fault.New(fault.Invalid, problem)
	}
	return hostSet(hosts), nil
}

func loginHostsProblem(hosts []string) string {
	if len(hosts) > MaxLoginHosts {
		return "login_hosts must be at most 64 hosts"
	}
	for _, host := range hosts {
		if _, problem := parseHost(host, postgresPort); problem != "" {
			return "login_hosts: " + hostRule + problem
		}
	}
	return ""
}

// hostSet is CanonicalHosts without its errors: what can't be parsed stays as it is.
func hostSet(hosts []string) []string {
	set := hostList(hosts)
	slices.Sort(set)
	return slices.Compact(set)
}

// hostList gives each host in its one form, in order; what can't be parsed stays as it is.
func hostList(hosts []string) []string {
	list := slices.Clone(hosts)
	for i, host := range hosts {
		if canonical, problem := parseHost(host, postgresPort); problem == "" {
			list[i] = canonical
		}
	}
	return list
}

func parseHost(s, defaultPort string) (host, problem string) {
	host, port := s, defaultPort
	switch colon := strings.LastIndexByte(s, ':'); {
	case strings.HasPrefix(s, "["):
		var rest string
		var closed bool
		if host, rest, closed = strings.Cut(s, "]"); !closed || rest != "" && rest[0] != ':' {
			return "", "this one opens a bracket and doesn't close it right before the port or the end"
		}
		host += "]"
		if rest != "" {
			port = rest[1:]
		}
	case colon >= 0 && strings.IndexByte(s, ':') != colon:
		return "", "this one has several ':' and no brackets: write an IPv6 address in brackets"
	case colon >= 0:
		host, port = s[:colon], s[colon+1:]
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port || n == 0 {
		return "", "its port must be 1 to 65535, without zeros before it"
	}
	if strings.HasPrefix(host, "[") {
		host, problem = parseAddress(host[1 : len(host)-1])
	} else {
		host, problem = parseHostName(host)
	}
	return host + ":" + port, problem
}

// parseAddress reads what brackets hold.
func parseAddress(s string) (host, problem string) {
	address, err := netip.ParseAddr(s)
	switch {
	case err != nil || !address.Is6():
		return "", "brackets are for an IPv6 address, and this one has none in them"
	case address.Zone() != "":
		return "", "a zone means another host on every machine: leave it out"
	}
	return addressHost(address)
}

func addressHost(address netip.Addr) (host, problem string) {
	address = address.Unmap()
	switch {
	case address.IsUnspecified() || address.IsMulticast():
		return "", "this address is no host's"
	case address.Is6():
		return "[" + address.String() + "]", ""
	}
	return address.String(), ""
}

func parseHostName(s string) (host, problem string) {
	if address, err := netip.ParseAddr(s); err == nil {
		return addressHost(address)
	}
	if s == "" || len(s) > maxHostBytes {
		return "", "names are 1 to 253 characters long"
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if !hostLabel(label) {
			return "", "names are labels of 1 to 63 letters, digits, '-' and '_' with single dots between them and no '-' at either end: " +
				"write one with other letters in its xn-- form, and leave out a dot at the end"
		}
	}
	s = strings.ToLower(s)
	// Resolvers take "10.1", "0x7f.1" and "127.000.0.1" for addresses, each for one that it doesn't look like.
	if last := s[strings.LastIndexByte(s, '.')+1:]; strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") {
		return "", "a name doesn't end in a number: write an IPv4 address as four numbers without zeros before them"
	}
	return s, ""
}

func hostLabel(label string) bool {
	if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	return strings.Trim(label, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}
