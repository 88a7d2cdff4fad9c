package pgtarget

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/target"
)

const (
	defaultTimeout = 10 * time.Second
	maxTimeout     = time.Hour // which the server's own limits can hold, in milliseconds
	maxHosts       = 16
	// maxName is the longest name in bytes (NAMEDATALEN - 1). The server cuts longer ones short without an error, and what is left
	// may be somebody else's.
	maxName = 63
)

// Config says where a PostgreSQL is.
type Config struct {
	// Hosts are where the primary may be, each as host:port, tried in order; one at least, 16 at most.
	Hosts []string
	// Standbys are where else a password has to work before it is tested, each as host:port; 16 at most.
	Standbys []string
	// Database is what to connect to, at all of them.
	Database string
	// CA holds the certificates, in PEM, that the servers' are checked against. Nil: those that the system trusts.
	CA []byte
	// Timeout bounds one operation at all hosts together; an hour at most. 0: 10 seconds.
	Timeout time.Duration
	// Dial makes a connection to an address as it is written above. Nil: a net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Random is where salts and nonces come from. Nil: the system's generator.
	Random io.Reader
}

// Target is a PostgreSQL whose roles' passwords are rotated. It holds no connection and is safe for concurrent use.
type Target struct {
	hosts, standbys []host
	database        string
	roots           *x509.CertPool
	timeout         time.Duration
	dial            func(ctx context.Context, network, address string) (net.Conn, error)
	random          *randomness.Source
}

// host is one place where a server may be.
type host struct {
	address  string // as it was written: it is shown, and dialed
	name     string // what its certificate has to be for
	loopback bool
}

// New checks a configuration. It connects to nothing.
func New(cfg Config) (*Target, error) {
	t := &Target{database: cfg.Database, timeout: cfg.Timeout, dial: cfg.Dial, random: randomness.New(cfg.Random)}
	var err error
	if t.hosts, err = parseHosts(cfg.Hosts, "host"); err != nil {
		return nil, err
	}
	if t.standbys, err = parseHosts(cfg.Standbys, "standby"); err != nil {
		return nil, err
	}
	switch {
	case len(t.hosts) == 0:
		return nil, fault.New(fault.Invalid, "a PostgreSQL target needs at least one host, as host:port")
	case !isName(cfg.Database):
		return nil, fault.New(fault.Invalid, "the database of a PostgreSQL target is 1 to 63 bytes of UTF-8 without NUL")
	case cfg.Timeout < 0 || cfg.Timeout > maxTimeout:
		return nil, fault.New(fault.Invalid, "the timeout of a PostgreSQL target is not negative and at most an hour")
	}
	if cfg.CA != nil {
		t.roots = x509.NewCertPool()
		if !t.roots.AppendCertsFromPEM(cfg.CA) {
			return nil, fault.New(fault.Invalid, "the CA of a PostgreSQL target holds no certificate in PEM")
		}
	}
	if t.timeout == 0 {
		t.timeout = defaultTimeout
	}
	if t.dial == nil {
		t.dial = new(net.Dialer).DialContext
	}
	return t, nil
}

func parseHosts(addresses []string, what string) ([]host, error) {
	if len(addresses) > maxHosts {
		return nil, fault.Newf(fault.Invalid, "a PostgreSQL target has at most %d addresses of one kind", maxHosts)
	}
	hosts := make([]host, 0, len(addresses))
	for i, address := range addresses {
		name, port, err := net.SplitHostPort(address)
		number, portErr := strconv.ParseUint(port, 10, 16)
		if err != nil || portErr != nil || number == 0 || !isHostName(name) {
			return nil, fault.Newf(fault.Invalid, "%s %d of a PostgreSQL target isn't host:port; an IPv6 address goes in brackets", what, i+1)
		}
		ip, err := netip.ParseAddr(name)
		hosts = append(hosts, host{address: address, name: name, loopback: err == nil && ip.Unmap().IsLoopback()})
	}
	return hosts, nil
}

// isHostName tells that a name is an IP address or made of what host names are made of, so that it can be shown.
func isHostName(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return name != "" && len(name) <= 253 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}

// isName tells that a name reaches the server as it is.
func isName(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) && !strings.ContainsRune(name, 0)
}

// isPassword tells that a password is the same bytes to the server and to every client: ASCII, whose SASLprep is itself (where that
// prohibits control characters PostgreSQL takes the bytes as they are), and no NUL, which ends it for most clients.
func isPassword(password []byte) bool {
	for _, b := range password {
		if b == 0 || b >= utf8.RuneSelf {
			return false
		}
	}
	return len(password) > 0
}

// checkLogin refuses what can't be logged in with.
func checkLogin(c target.Credential) error {
	if !isName(c.Username) {
		return refuse(target.Permanent, nil, "a user name is 1 to 63 bytes of UTF-8 without NUL")
	}
	if !isPassword(c.Password.Reveal()) {
		return refuse(target.Permanent, nil, "the password to log in with is empty, or holds something other than ASCII")
	}
	return nil
}

// Try logs in with c at the primary, and refuses a server that asks for no password or for another proof than SCRAM. It tells whether
// a credential works, and not whether another one would too: see [Target.Test].
func (t *Target) Try(ctx context.Context, c target.Credential) error {
	if err := checkLogin(c); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	s, err := t.primary(ctx, c)
	if err != nil {
		return err
	}
	s.close()
	return nil
}

// Test logs in with c at the primary and at every standby, each time afresh, and tries a wrong password at each: a server that takes
// that too takes anything, which is Permanent. A standby that refuses a password that the primary has accepted is most likely
// behind, which is Transient.
func (t *Target) Test(ctx context.Context, c target.Credential) error {
	if err := checkLogin(c); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	wrong, err := t.wrong(c)
	if err != nil {
		return err
	}
	defer wrong.Password.Release()
	s, err := t.primary(ctx, c)
	if err != nil {
		return err
	}
	s.close()
	if err := t.refuses(ctx, s.host, wrong, len(t.standbys)+1); err != nil {
		return err
	}
	for i, standby := range t.standbys {
		left := len(t.standbys) - i
		s, err := t.connect(ctx, standby, c, left)
		switch {
		case stateOf(err) == invalidPassword:
			return refuse(target.Transient, err, "%s refuses the password that the primary accepts: if it is a standby, it is behind", standby.address)
		case err != nil:
			return err
		}
		s.close()
		if err := t.refuses(ctx, standby, wrong, left); err != nil {
			return err
		}
	}
	return nil
}

// refuses makes sure that a server refuses a wrong password.
func (t *Target) refuses(ctx context.Context, h host, wrong target.Credential, parts int) error {
	s, err := t.connect(ctx, h, wrong, parts)
	if err == nil {
		s.close()
	}
	switch {
	case target.ClassOf(err) == target.Authentication:
		return nil
	case err == nil, errors.Is(err, errUnproven), errors.Is(err, errImpostor):
		return refuse(target.Permanent, err, "%s accepts a wrong password: %s", h.address, adviceTrust)
	}
	return err
}
