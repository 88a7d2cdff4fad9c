package webhook

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/target"
)

// names starts a DNS server that has these addresses for every name: those of the first list the first time that it is asked, and so on.
// What it gives asks nobody else.
func names(t *testing.T, answers ...[]string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		asked := map[uint16]int{} // by type, as both are asked for at once
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			end := 12 // of the question: a name ends with an empty label
			for buf[end] != 0 {
				end += int(buf[end]) + 1
			}
			kind := binary.BigEndian.Uint16(buf[end+1:])
			list := answers[min(asked[kind], len(answers)-1)]
			asked[kind]++
			if end += 5; end > n {
				continue
			}
			_, _ = conn.WriteTo(reply(buf[:end], kind, list), from)
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		all.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// reply answers a question with those of the addresses that are of its type.
func reply(question []byte, kind uint16, list []string) []byte {
	out := append([]byte(nil), question...)
	binary.BigEndian.PutUint16(out[2:], 0x8580) // an answer with authority
	var count uint16
	for _, text := range list {
		addr := netip.MustParseAddr(text)
		if (kind == 1) != addr.Is4() || (kind == 28) != addr.Is6() {
			continue
		}
		count++
		out = append(out, 0xc0, 12) // the name in the question
		out = binary.BigEndian.AppendUint16(out, kind)
		out = append(out, 0, 1, 0, 0, 0, 0) // of the Internet, for no time
		out = binary.BigEndian.AppendUint16(out, uint16(addr.BitLen()/8))
		out = append(out, addr.AsSlice()...)
	}
	binary.BigEndian.PutUint16(out[6:], count)
	binary.BigEndian.PutUint32(out[8:], 0)
	return out
}

func port(t *testing.T, cfg Config) string {
	t.Helper()
	_, rest, found := strings.Cut(cfg.URL, "https://127.0.0.1:")
	if !found {
		t.Fatal(cfg.URL)
	}
	number, _, _ := strings.Cut(rest, "/")
	return number
}

// doors is a receiver that counts connections, which come before anything is proven.
func doors(t *testing.T, addresses ...string) (Config, *atomic.Int64) {
	t.Helper()
	var count atomic.Int64
	cfg := receive(t, func(http.ResponseWriter, *http.Request) {})
	for _, address := range addresses {
		listener, err := net.Listen("tcp", net.JoinHostPort(address, port(t, cfg)))
		if err != nil {
			t.Skipf("nothing can listen at %s here: %v", address, err)
		}
		accept(t, listener, func(net.Conn) { count.Add(1) })
	}
	return cfg, &count
}

func TestI4_NamesThatLeadInsideAreRefused(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int64
	accept(t, listener, func(net.Conn) { connections.Add(1) })
	_, at, _ := net.SplitHostPort(listener.Addr().String())
	for name, tc := range map[string]struct {
		host    string
		answers []string
		says    string
	}{
		"an address":               {"127.0.0.1", nil, "loopback"},
		"another of that range":    {"127.1.2.3", nil, "loopback"},
		"the unspecified one":      {"0.0.0.0", nil, "unspecified"},
		"a mapped address":         {"[::ffff:127.0.0.1]", nil, "loopback"},
		"IPv6":                     {"[::1]", nil, "loopback"},
		"unspecified IPv6":         {"[::]", nil, "unspecified"},
		"this host's own name":     {"localhost", nil, "loopback"},
		"metadata":                 {"169.254.169.254", nil, "link-local"},
		"a private one":            {"10.0.0.1", nil, "private"},
		"a name":                   {"receiver.test", []string{"127.0.0.1"}, "loopback"},
		"a name with a dot":        {"receiver.test.", []string{"127.0.0.1"}, "loopback"},
		"a name of IPv6":           {"receiver.test", []string{"::1"}, "loopback"},
		"a name of metadata":       {"receiver.test", []string{"169.254.169.254"}, "link-local"},
		"a name of metadata, IPv6": {"receiver.test", []string{"fd00:ec2::254"}, "private"},
		"a name of many":           {"receiver.test", []string{"10.0.0.1", "127.0.0.1", "192.168.0.1"}, "which webhooks don't reach"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{URL: "https://" + tc.host + ":" + at, Timeout: time.Hour}
			if tc.answers != nil {
				cfg.Resolver = names(t, tc.answers)
			}
			err := newTarget(t, cfg).Send(t.Context(), event(), keys(keyA))
			wantClass(t, err, target.Permanent, tc.says, "VAULT_ROTATION_WEBHOOK_ALLOWED_IPS")
		})
	}
	t.Cleanup(func() { // when all of these are done
		if connections.Load() != 0 {
			t.Errorf("%d connections were made", connections.Load())
		}
	})
}

func TestSend_NameIsResolvedAndItsCertificateChecked(t *testing.T) {
	t.Parallel()
	cfg, requests := listen(t)
	at := port(t, cfg)
	cfg.Resolver = names(t, []string{"127.0.0.1"})
	for host, said := range map[string]string{"receiver.test": "receiver.test", "receiver.test.": "receiver.test."} {
		cfg.URL = "https://" + host + ":" + at
		if err := newTarget(t, cfg).Send(t.Context(), event(), keys(keyA)); err != nil {
			t.Fatal(err)
		}
		if got := <-requests; got.host != said+":"+at || got.uri != "/" {
			t.Errorf("got %s of %s", got.uri, got.host)
		}
	}
	cfg.URL = "https://other.test:" + at
	wantClass(t, newTarget(t, cfg).Send(t.Context(), event(), keys(keyA)), target.Transient, "another host")
	cfg.Resolver = names(t, nil)
	wantClass(t, newTarget(t, cfg).Send(t.Context(), event(), keys(keyA)), target.Transient, "no address")
}

// The first answer is an address that may be reached, the second one that may not.
func TestI4_NameThatChangesItsMindIsRefused(t *testing.T) {
	t.Parallel()
	cfg, inside := doors(t, "127.0.0.2")
	cfg.URL = strings.Replace(cfg.URL, "127.0.0.1", "receiver.test", 1)
	cfg.Allowed = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	cfg.Resolver = names(t, []string{"127.0.0.1"}, []string{"127.0.0.2"})
	it := newTarget(t, cfg)
	if err := it.Send(t.Context(), event(), keys(keyA)); err != nil {
		t.Fatal(err)
	}
	wantClass(t, it.Send(t.Context(), event(), keys(keyA)), target.Permanent, "loopback")
	if inside.Load() != 0 {
		t.Errorf("%d connections were made inside", inside.Load())
	}
	cfg.Allowed = loopback
	if wantClass(t, newTarget(t, cfg).Send(t.Context(), event(), keys(keyA)), target.Transient); inside.Load() != 1 {
		t.Error("control: nobody listened inside")
	}
}

// A name with an address of each kind is reached by the one that may be.
func TestI4_RefusedAddressIsPassedOver(t *testing.T) {
	t.Parallel()
	cfg, inside := doors(t, "127.0.0.2", "127.0.0.3")
	cfg.URL = strings.Replace(cfg.URL, "127.0.0.1", "receiver.test", 1)
	cfg.Allowed = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	cfg.Resolver = names(t, []string{"127.0.0.2", "127.0.0.1", "127.0.0.3"})
	if err := newTarget(t, cfg).Send(t.Context(), event(), keys(keyA)); err != nil {
		t.Fatal(err)
	}
	if inside.Load() != 0 {
		t.Errorf("%d connections were made inside", inside.Load())
	}
}

// It sets the environment, so it isn't parallel.
func TestSend_EnvironmentNamesNoProxy(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int64
	accept(t, listener, func(net.Conn) { connections.Add(1) })
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://"+listener.Addr().String())
		t.Setenv(strings.ToLower(name), "http://"+listener.Addr().String())
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	cfg, requests := listen(t)
	cfg.URL = strings.Replace(cfg.URL, "127.0.0.1", "receiver.test", 1) // what leads to this host never goes through a proxy
	cfg.Resolver = names(t, []string{"127.0.0.1"})
	if err := newTarget(t, cfg).Send(t.Context(), event(), keys(keyA)); err != nil {
		t.Fatal(err)
	}
	<-requests
	if connections.Load() != 0 {
		t.Error("the proxy was asked")
	}
}
