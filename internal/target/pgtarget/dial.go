package pgtarget

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"time"

	"github.com/sealkeep/sealkeep/internal/target"
)

// sslRequest asks a server for TLS before anything else is said (PostgreSQL documentation, "SSL Session Encryption").
var sslRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}

// wire is a connection to a server before anybody has logged in.
type wire struct {
	net.Conn
	raw     net.Conn // under TLS; Close of a TLS connection would wait for a peer that doesn't read
	binding []byte   // the server's certificate as tls-server-end-point has it (RFC 5929); nil where that is not defined
}

// secured tells whether it is TLS.
func (w *wire) secured() bool { return w.Conn != w.raw }

func (w *wire) Close() error { return w.raw.Close() }

// open connects to a host, under TLS unless it is a loopback address that offers none.
func (t *Target) open(ctx context.Context, h host) (*wire, error) {
	conn, err := t.dial(ctx, "tcp", h.address)
	if err != nil {
		return nil, refuse(target.Transient, err, "%s can't be reached", h.address)
	}
	release := bind(ctx, conn)
	w, err := t.secure(ctx, h, conn)
	if !release() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		return w, nil
	}
	_ = conn.Close()
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errNoTLS):
		return nil, refuse(target.Permanent, err, "%s offers no TLS, and no password is proven without: set ssl = on there", h.address)
	case errors.As(err, &untrusted):
		return nil, refuse(target.Permanent, err,
			"the certificate of %s is not accepted: it has to be valid, for that host name, and issued by the CA of this target", h.address)
	}
	return nil, refuse(target.Transient, err, "%s gave no connection", h.address)
}

func (t *Target) secure(ctx context.Context, h host, conn net.Conn) (*wire, error) {
	if _, err := conn.Write(sslRequest); err != nil {
		return nil, err
	}
	// One byte and no more: what somebody put in behind it is then a part of the handshake, which fails (CVE-2021-23222).
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, err
	}
	switch {
	case answer[0] == 'N' && h.loopback:
		return &wire{Conn: conn, raw: conn}, nil
	case answer[0] == 'N':
		return nil, errNoTLS
	case answer[0] != 'S':
		return nil, errProtocol // an error before TLS, which anybody on the way may have written
	}
	secured := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.roots, ServerName: h.name})
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return &wire{Conn: secured, raw: conn, binding: endPoint(secured.ConnectionState().PeerCertificates[0])}, nil
}

// endPoint hashes a certificate as RFC 5929, section 4.1, says: by the hash of its signature, or SHA-256 for weaker ones.
func endPoint(certificate *x509.Certificate) []byte {
	switch certificate.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		sum := sha256.Sum256(certificate.Raw)
		return sum[:]
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		sum := sha512.Sum384(certificate.Raw)
		return sum[:]
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		sum := sha512.Sum512(certificate.Raw)
		return sum[:]
	default:
		return nil
	}
}

// bind has a connection's reads and writes fail when the context ends. After release, which tells that it has not ended so far, only
// its deadline is left.
func bind(ctx context.Context, conn net.Conn) (release func() bool) {
	deadline, _ := ctx.Deadline() // the zero time is none
	_ = conn.SetDeadline(deadline)
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// share gives one of several places that are still to be tried its part of what is left of the time, so that one that doesn't answer
// leaves some for the others.
func share(ctx context.Context, parts int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || parts <= 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(parts))
}
