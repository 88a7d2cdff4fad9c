// Package webhook tells a receiver about a rotation by a signed HTTPS request, and makes of its answer what the rotation
// needs to know.
//
// The request is written here rather than by net/http's client, which copies a body through buffers that it gives up, or lends
// to other connections, without zeroing them. A connection serves one request and is closed, so nothing of what that client is good
// at is missed: it has no pool, no proxy from the environment, no cookies, no redirects and no attempt of its own at trying again.
//
// Invariants:
//   - I1: a value is copied once, into a body that is zeroed when Send returns, and from there into a buffer of TLS, which encrypts it there.
//     No error holds it, nor anything that a receiver sent beyond its status: it may repeat what it was told.
//   - I4: an address is judged after the name was resolved and before the connection is made to that very address, so there is no moment
//     at which a name can come to mean something else. What has no class is public; what can't be read is refused.
//   - I7: an event carries its id and its generation. Only a 2xx is success; whatever isn't understood is Transient.
//   - A receiver is known by its certificate before it is told anything, and costs a bounded amount of time and memory whatever it does.
package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

const (
	defaultTimeout = 10 * time.Second
	maxURL         = 2048 // bytes
)

// Config says where events go. All but URL may be left out.
type Config struct {
	// URL is the receiver's, with https.
	URL string
	// CA holds the certificates in PEM that vouch for the receiver. Without it the system's do.
	CA []byte
	// Allowed are addresses that may be reached although they aren't public ones.
	Allowed []netip.Prefix
	// Resolver turns names into addresses; nil is the system's.
	Resolver *net.Resolver
	// Timeout is how long one Send may take with all that belongs to it; 0 is 10 s.
	Timeout time.Duration
	// Clock tells the time that events are signed with and certificates are judged by; nil is the system's.
	Clock func() time.Time
}

// Target is a receiver. It is immutable, and safe for concurrent use.
type Target struct {
	host    string // as the header has it
	uri     string // path and query
	address string // host:port, to be resolved
	dialer  net.Dialer
	tls     *tls.Config
	timeout time.Duration
	now     func() time.Time
}

// New returns a Target. It resolves and connects to nothing. Errors are of kind Invalid and don't repeat the URL, which may hold
// what isn't meant for everybody.
func New(cfg Config) (*Target, error) {
	u, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	var roots *x509.CertPool // nil is the system's
	if len(cfg.CA) > 0 {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(cfg.CA) {
			return nil, fault.New(fault.Invalid, "the webhook's CA holds no certificate: give PEM blocks of type CERTIFICATE, or leave it out")
		}
	}
	for _, p := range cfg.Allowed {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fault.New(fault.Invalid, allowedSetting+" holds what is no range of addresses: write them like 10.1.2.0/24, IPv4 ones as IPv4")
		}
	}
	if cfg.Timeout < 0 {
		return nil, fault.New(fault.Invalid, "the webhook's timeout is negative: give a positive one, or none for 10 seconds")
	}
	t := &Target{host: u.Host, uri: u.RequestURI(), timeout: cfg.Timeout, now: cfg.Clock}
	if t.timeout == 0 {
		t.timeout = defaultTimeout
	}
	if t.now == nil {
		t.now = time.Now
	}
	port := u.Port()
	if port == "" {
		port = "443"
		t.host = strings.TrimSuffix(t.host, ":")
	}
	t.address = net.JoinHostPort(u.Hostname(), port)
	t.dialer = net.Dialer{Resolver: cfg.Resolver, ControlContext: guard(slices.Clone(cfg.Allowed)).control}
	t.tls = &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: strings.TrimSuffix(u.Hostname(), "."),
		NextProtos: []string{"http/1.1"}, Time: t.now,
	}
	return t, nil
}

func parseURL(text string) (*url.URL, error) {
	invalid := func(message string) (*url.URL, error) {
		return nil, fault.New(fault.Invalid, "the webhook's URL "+message)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil: // which repeats it
		return invalid("can't be read: write https://HOST/PATH")
	case len(text) > maxURL:
		return invalid("is too long: at most 2048 bytes")
	case u.Scheme != "https":
		return invalid("isn't one of https, and rotations tell secrets: write https://HOST/PATH")
	case u.Opaque != "" || u.Hostname() == "":
		return invalid("names no host: write https://HOST/PATH")
	case u.User != nil:
		return invalid("holds a user or password: leave them out; the receiver knows requests by their signature")
	case strings.Contains(text, "#"):
		return invalid("has a fragment, which is never sent: leave out what begins with #")
	case strings.Contains(u.Hostname(), "%"):
		return invalid("names an IPv6 zone, which means something on one machine alone: leave it out")
	case !isHeaderText(u.Host) || !isHeaderText(u.RequestURI()):
		return invalid("holds spaces or characters that aren't ASCII: percent-encode them, and write an international host name in its form with xn--")
	case u.Port() != "" && !isPort(u.Port()):
		return invalid("has a port that isn't one: write a number from 1 to 65535, or none for 443")
	}
	return u, nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// isHeaderText tells whether s is visible ASCII alone, so that it can't end a line or a word of the request's head.
func isHeaderText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// Send posts the event, signed by each of the keys, of which there are one or two, the newest first, and gives nil if the receiver
// answers with a 2xx. It takes at most the Target's timeout, and less if ctx ends before. The caller releases what the event and keys
// hold. Errors are *target.Error.
func (t *Target) Send(ctx context.Context, e Event, keys []sensitive.Bytes) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	body, err := e.encode()
	if err != nil {
		return err
	}
	defer body.Release()
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	conn, err := t.connect(ctx)
	if err != nil {
		return err
	}
	return post(ctx, conn, t.head(e.ID.String(), body, keys), body.Reveal())
}
