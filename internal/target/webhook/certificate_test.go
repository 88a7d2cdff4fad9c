package webhook

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/target"
)

// serveTLS starts a receiver that reads, and gives its URL.
func serveTLS(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	accept(t, listener, func(conn net.Conn) {
		if text := readRequest(conn); text != "" {
			t.Error("a receiver without a proof was sent a request")
		}
	})
	return "https://" + listener.Addr().String()
}

func TestSend_ReceiversCertificateIsItsProof(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	good := receive(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	later := func() time.Time { return time.Now().Add(2 * time.Hour) }
	plain := func(t *testing.T) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		accept(t, listener, func(conn net.Conn) {
			_, _ = conn.Write([]byte("HTTP/1.1 400 no TLS here\r\n\r\n"))
			_, _ = conn.Read(make([]byte, 1<<10))
		})
		return "https://" + listener.Addr().String()
	}
	for name, tc := range map[string]struct {
		change func(*testing.T, *Config)
		says   string
	}{
		"another authority": {func(t *testing.T, c *Config) { c.CA = newAuthority(t).pem }, "no known authority"},
		"the system's":      {func(_ *testing.T, c *Config) { c.CA = nil }, "no known authority"},
		"another host": {
			func(t *testing.T, c *Config) {
				ca := newAuthority(t)
				c.URL, c.CA = serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.9")}}), ca.pem
			}, "another host",
		},
		"expired":       {func(_ *testing.T, c *Config) { c.Clock = later }, "expired"},
		"no TLS at all": {func(t *testing.T, c *Config) { c.URL = plain(t) }, "doesn't speak TLS"},
		"a version of long ago": {
			func(t *testing.T, c *Config) {
				ca := newAuthority(t)
				c.URL, c.CA = serveTLS(t, &tls.Config{
					Certificates: []tls.Certificate{ca.issue(t, everyHost...)}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
				}), ca.pem
			}, "handshake",
		},
		"nobody listens anymore": {func(_ *testing.T, c *Config) { c.URL = "https://127.0.0.1:1" }, "can't be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			tc.change(t, &cfg)
			wantClass(t, newTarget(t, cfg).Send(t.Context(), event(), keys(keyA)), target.Transient, tc.says)
		})
	}
	t.Cleanup(func() { // when all of these are done
		if requests.Load() != 0 {
			t.Errorf("%d requests arrived", requests.Load())
		}
	})
}

func TestSend_EndsWithItsContextOrItsTime(t *testing.T) {
	t.Parallel()
	t.Run("the context", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cfg := serve(t, func(conn net.Conn) {
			readRequest(conn)
			cancel()
			_, _ = conn.Read(make([]byte, 1)) // until the other side is gone
		})
		err := newTarget(t, cfg).Send(ctx, event(), keys(keyA))
		wantClass(t, err, target.Transient, "given up")
	})
	t.Run("the time", func(t *testing.T) {
		t.Parallel()
		cfg := serve(t, func(conn net.Conn) {
			readRequest(conn)
			_, _ = conn.Read(make([]byte, 1)) // until the other side is gone
		})
		cfg.Timeout = 50 * time.Millisecond
		err := newTarget(t, cfg).Send(t.Context(), event(), keys(keyA))
		wantClass(t, err, target.Transient, "in time")
	})
}
