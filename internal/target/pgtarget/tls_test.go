package pgtarget

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sealkeep/sealkeep/internal/pgserver"
	"github.com/sealkeep/sealkeep/internal/target"
)

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	raw, key := sign(t, a, &x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true})
	var err error
	if a.certificate, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	a.key = key
	return a
}

// issue makes a certificate for a name.
func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	raw, key := sign(t, a, template)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

func sign(t *testing.T, a *authority, template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return raw, key
}

// secureServer is a server with a certificate for db.test.
func secureServer(t *testing.T, a *authority) *server {
	t.Helper()
	s := startServer(t, pgserver.Config{})
	if err := s.furnish(); err != nil {
		t.Fatal(err)
	}
	c := a.issue(t, "db.test")
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.DataDir())
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	for name, block := range map[string]*pem.Block{
		"server.crt": {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, "server.key": {Type: "PRIVATE KEY", Bytes: key},
	} {
		path := filepath.Join(s.DataDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	s.exec(t, "ALTER SYSTEM SET ssl = on")
	s.exec(t, "SELECT pg_reload_conf()")
	s.until(t, "SELECT current_setting('ssl') = 'on'")
	return s
}

// to makes connections to an address, whatever they are asked for.
func to(address string) func(ctx context.Context, network, _ string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}

func TestI4_TheServerProvesItsName(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	s := secureServer(t, a)
	role := s.role(t, "")
	next := fresh(t, role)
	good := newTarget(t, Config{Hosts: []string{"db.test:5432"}, CA: a.pem(), Dial: to(s.address)})
	want(t, "Apply", good.Apply(t.Context(), role, next, 1), "")
	want(t, "Test", good.Test(t.Context(), next), "")
	want(t, "Test of the old one", good.Test(t.Context(), role), target.Authentication)

	for name, cfg := range map[string]Config{
		"another authority":        {Hosts: []string{"db.test:5432"}, CA: newAuthority(t).pem(), Dial: to(s.address)},
		"the system's authorities": {Hosts: []string{"db.test:5432"}, Dial: to(s.address)},
		"another name":             {Hosts: []string{"db2.test:5432"}, CA: a.pem(), Dial: to(s.address)},
		"a loopback address":       {Hosts: []string{s.address}, CA: a.pem()},
	} {
		pg := newTarget(t, cfg)
		want(t, name, pg.Try(t.Context(), next), target.Permanent, "certificate")
		want(t, name, pg.Apply(t.Context(), next, fresh(t, role), 2), target.Permanent, "certificate")
	}
}

// The man in the middle has a certificate for the same name, by the same authority, and passes on what he reads: only what binds the
// proof to the channel tells him from the server.
func TestI4_AProofIsBoundToTheChannel(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	s := secureServer(t, a)
	role := s.role(t, "")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	outside := &tls.Config{Certificates: []tls.Certificate{a.issue(t, "db.test")}}
	inside := &tls.Config{InsecureSkipVerify: true}
	var all sync.WaitGroup
	var passed bytes.Buffer
	all.Go(func() {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		upstream, err := net.Dial("tcp", s.address)
		if err != nil {
			return
		}
		defer upstream.Close()
		request := make([]byte, len(sslRequest)+1)
		_, _ = io.ReadFull(client, request[:len(sslRequest)])
		_, _ = client.Write([]byte("S"))
		_, _ = upstream.Write(sslRequest)
		_, _ = io.ReadFull(upstream, request[:1])
		here, there := tls.Server(client, outside), tls.Client(upstream, inside)
		all.Go(func() {
			_, _ = io.Copy(here, there)
			_ = client.Close()
		})
		_, _ = io.Copy(io.MultiWriter(there, &passed), here)
		_ = upstream.Close()
	})
	pg := newTarget(t, Config{Hosts: []string{"db.test:5432"}, CA: a.pem(), Dial: to(listener.Addr().String())})
	if err := pg.Try(t.Context(), role); err == nil {
		t.Error("a proof that was passed on was accepted")
	}
	_ = listener.Close()
	all.Wait()
	if !bytes.Contains(passed.Bytes(), []byte("SCRAM-SHA-256-PLUS")) {
		t.Errorf("nothing was passed on, so this proves nothing: %q", passed.String())
	}
	direct := newTarget(t, Config{Hosts: []string{"db.test:5432"}, CA: a.pem(), Dial: to(s.address)})
	want(t, "without anybody in between", direct.Try(t.Context(), role), "")
}

func TestI1_WithoutTLSNothingIsSaid(t *testing.T) {
	t.Parallel()
	h := serve(t, send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03"}))
	c := credential(t, "app", rightPassword)
	for _, host := range []string{"db.test:5432", "localhost:5432", "10.0.0.1:5432", "[2001:db8::1]:5432"} {
		pg := newTarget(t, Config{Hosts: []string{host}, Dial: to(h.address)})
		want(t, host, pg.Try(t.Context(), c), target.Permanent, host+" offers no TLS")
	}
	if sent := h.sent(); bytes.ContainsAny([]byte(sent), "app") {
		t.Errorf("it was sent %q", sent)
	}
	for _, host := range []string{"127.0.0.1:5432", "127.8.8.8:5432", "[::1]:5432", "[::ffff:127.0.0.1]:5432"} {
		pg := newTarget(t, Config{Hosts: []string{host}, Dial: to(h.address)})
		if err := pg.Try(t.Context(), c); target.ClassOf(err) != target.Transient || !bytes.Contains([]byte(h.sent()), []byte("app")) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// Somebody on the way may answer for the server before there is TLS, and what he puts in behind the answer must not be read as if it
// had come under TLS.
func TestI1_WhatIsSaidBeforeTLSIsNotBelieved(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"bytes behind the answer": "SR\x00\x00\x00\x08\x00\x00\x00\x03", "an error": "E\x00\x00\x00\x08FATAL", "nothing": "",
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		var got bytes.Buffer
		all.Go(func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.CopyN(&got, conn, int64(len(sslRequest)))
			_, _ = conn.Write([]byte(answer))
			if answer != "" {
				_, _ = io.Copy(&got, conn)
			}
		})
		pg := newTarget(t, Config{Hosts: []string{"127.0.0.1:5432"}, Dial: to(listener.Addr().String()), Timeout: limit / 20})
		want(t, name, pg.Try(t.Context(), credential(t, "app", rightPassword)), target.Transient)
		_ = listener.Close()
		all.Wait()
		if bytes.Contains(got.Bytes(), []byte("user\x00app")) {
			t.Errorf("%s: it was sent %q", name, got.String())
		}
	}
}
