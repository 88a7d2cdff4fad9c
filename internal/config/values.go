package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// refusal says what to write instead of a value. It never repeats the value.
type refusal string

func (r refusal) Error() string { return string(r) }

// address is host:port.
type address string

func (a *address) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	if err != nil || !isPort(port, 0) || (host != "" && !isHost(host)) {
		return refusal("write host:port, like 127.0.0.1:8200, [::1]:8200 or :8200, with a port from 0 to 65535")
	}
	*a = address(text)
	return nil
}

// takesAnyPort tells that an address leaves the port to the system, so that two such listeners don't collide.
func takesAnyPort(hostPort string) bool { return strings.HasSuffix(hostPort, ":0") }

// isPort tells whether s is a decimal port number, least or more.
func isPort(s string, least uint64) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n >= least && s[0] != '+'
}

// isHost tells whether s is an IP address or has the form of a host name.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		// The underscore isn't a host name's, but names inside container networks have it.
		if strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return false
		}
	}
	return true
}

// flag is true or false.
type flag bool

func (f *flag) UnmarshalText(text []byte) error {
	switch strings.ToLower(string(text)) {
	case "true", "1":
		*f = true
	case "false", "0":
		*f = false
	default:
		return refusal("write true or false")
	}
	return nil
}

// readAuth is what a read needs.
type readAuth string

func (r *readAuth) UnmarshalText(text []byte) error {
	switch string(text) {
	case "ip", "ip+token":
		*r = readAuth(text)
		return nil
	default:
		return refusal("write ip or ip+token")
	}
}

// level is the least severe level that is logged.
type level slog.Level

func (l *level) UnmarshalText(text []byte) error {
	switch strings.ToLower(string(text)) {
	case "debug":
		*l = level(slog.LevelDebug)
	case "info":
		*l = level(slog.LevelInfo)
	case "warn", "warning":
		*l = level(slog.LevelWarn)
	case "error":
		*l = level(slog.LevelError)
	default:
		return refusal("write debug, info, warn or error")
	}
	return nil
}

// judgeWhole tells what is wrong with a value of v, which is a whole number; empty means nothing.
func (v Variable) judgeWhole(text string) string {
	if text == "" {
		return "" // unset, without a default
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || text[0] == '+' || n < v.least || n > v.most {
		return fmt.Sprintf("write a whole number from %d to %d", v.least, v.most)
	}
	return ""
}

// isLoopback tells whether what is sent to a host stays on this machine.
func isLoopback(name string) bool {
	if strings.EqualFold(name, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback()
}
