package webhook

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/target"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary is a value that must not show up anywhere but at the receiver.
const canary = "Zk7-canary-Qv9-of-a-value"

var (
	keyA = bytes.Repeat([]byte("a"), 32)
	keyB = bytes.Repeat([]byte("b"), 40)

	// loopback lets webhooks reach the receivers of these tests.
	loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
)

// authority vouches for receivers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue makes a certificate for these hosts, valid for an hour around now.
func (a *authority) issue(t *testing.T, hosts ...string) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

var everyHost = []string{"127.0.0.1", "127.0.0.2", "::1", "localhost", "receiver.test"}

// receive starts a receiver, and gives its URL and a configuration with which it is reached.
func receive(t *testing.T, handler http.HandlerFunc) Config {
	t.Helper()
	ca := newAuthority(t)
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, everyHost...)}}
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail on purpose
	server.StartTLS()
	t.Cleanup(server.Close)
	return Config{URL: server.URL + "/hook", CA: ca.pem, Allowed: loopback, Timeout: time.Hour}
}

// serve starts a receiver that does with its connections what it wants.
func serve(t *testing.T, handle func(conn net.Conn)) Config {
	t.Helper()
	ca := newAuthority(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, everyHost...)}})
	if err != nil {
		t.Fatal(err)
	}
	accept(t, listener, handle)
	return Config{URL: "https://" + listener.Addr().String(), CA: ca.pem, Allowed: loopback, Timeout: time.Hour}
}

func accept(t *testing.T, listener net.Listener, handle func(conn net.Conn)) {
	t.Helper()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
}

func newTarget(t *testing.T, cfg Config) *Target {
	t.Helper()
	it, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

// keys gives handles on these keys.
func keys(all ...[]byte) []sensitive.Bytes {
	var handles []sensitive.Bytes
	for _, key := range all {
		handles = append(handles, sensitive.Copy(key))
	}
	return handles
}

func event() Event {
	return Event{
		ID: uuid.MustParse("0190c8a4-3f5e-7c6b-9d2a-1b2c3d4e5f60"), Step: StepApply,
		SecretID: uuid.MustParse("5b8e0f3c-52ad-4d0c-8f0e-9a8b7c6d5e4f"), Secret: "payments/api-key", Version: 7, Generation: 12,
		Value: sensitive.CopyString(canary),
	}
}

// wantClass fails unless err is a refusal of that class that says all of this and nothing of the canary, in any form.
func wantClass(t *testing.T, err error, class target.Class, says ...string) {
	t.Helper()
	var e *target.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if e.Class != class {
		t.Errorf("class %s, want %s: %v", e.Class, class, err)
	}
	for _, s := range says {
		if !strings.Contains(e.Message, s) {
			t.Errorf("%q is not in %q", s, e.Message)
		}
	}
	// The cause is never shown, and holds nothing of what came after the value was sent either.
	if text := fmt.Sprintf("%v %+v %#v %v", err, e, e, e.Err); leaks(text) {
		t.Errorf("the error holds the value: %s", text)
	}
}

func leaks(text string) bool {
	for _, form := range []string{canary, hex.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte(canary))} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
			return true
		}
	}
	return false
}

// readRequest reads a whole request from a connection.
func readRequest(conn net.Conn) string {
	var text strings.Builder
	buf := make([]byte, 4096)
	for !strings.HasSuffix(text.String(), "}") {
		n, err := conn.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			break
		}
	}
	return text.String()
}

func readAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return b
}
