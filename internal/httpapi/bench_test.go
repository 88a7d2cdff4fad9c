package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/telemetry"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// The benchmarks measure what the edge costs apart from its use cases, which here have their answers already. "bare" is
// what net/http, gin and the benchmark itself cost: a gin that answers constant bytes. What counts is the ratio to it
// within one run; the processor time is less disturbed by other processes than the clock.

// benchToken is in the form of a token and names nobody.
const benchToken = "svk_0123456789012345678901234567890123456789abcABC000"

const benchSecret = "/v1/secrets/payments/stripe/api-key"

// call is a request that is answered over and over.
type call struct {
	name, method, path, body string
}

var (
	callRead   = call{"read", http.MethodGet, benchSecret, ""}
	callVerify = call{"verify", http.MethodPost, benchSecret + "/verify", `{"value":"0123456789abcdef0123456789abcdef"}`}
	callBatch  = call{"batch of 64", http.MethodPost, "/v1/batch/secrets", `{"names":["payments/stripe/api-key-0"` + strings.Repeat(`,"payments/stripe/api-key-x"`, 63) + `]}`}
)

// benchEdge is the handler as a process has it, but for the use cases.
func benchEdge(b *testing.B) *api {
	b.Helper()
	a, err := newAPI(&vault.Vault{}, Config{Log: telemetry.NewLogger(io.Discard, slog.LevelInfo), Metrics: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	stored := sample(nil)
	value := []byte("a value of a usual length: 0123456789abcdef0123456789abcdef")
	open := func() *vault.Secret {
		s := *stored
		s.Material = &secret.Material{Format: secret.Opaque, Value: sensitive.Copy(value)}
		return &s
	}
	a.secrets[verbItself][http.MethodGet].handle = func(_ *api, ctx context.Context, x *exchange) error {
		if _, err := readRequest(x); err != nil {
			return err
		}
		awaitNothing(ctx, x.caller())
		return x.secret(http.StatusOK, open())
	}
	a.secrets[verbVerify][http.MethodPost].handle = func(_ *api, ctx context.Context, x *exchange) error {
		g, err := decodeVerify(x.body)
		defer release(g)
		if err != nil {
			return err
		}
		awaitNothing(ctx, x.caller())
		return x.disclose(http.StatusOK, func(d *disclosure) error { return d.verdict(vault.Verdict{Valid: true, Version: 3}) })
	}
	list := make([]*vault.Secret, 64)
	for i := range list {
		list[i] = open()
	}
	a.engine.POST("/bench"+callBatch.path, a.onRoute(route{
		method: http.MethodPost, pattern: callBatch.path, body: bodyRequired,
		handle: func(_ *api, ctx context.Context, x *exchange) error {
			if _, err := decodeBatch(x.body); err != nil {
				return err
			}
			awaitNothing(ctx, x.caller())
			return x.disclose(http.StatusOK, func(d *disclosure) error { return d.secrets(list) })
		},
	}))
	return a
}

// awaitNothing does with a context what every use case does.
func awaitNothing(ctx context.Context, _ vault.Caller) {
	select {
	case <-ctx.Done():
	default:
	}
}

// bare answers constant bytes.
func bare(length int) http.Handler {
	releaseMode()
	e := gin.New()
	body := make([]byte, length)
	e.NoRoute(func(g *gin.Context) { g.Data(http.StatusOK, "application/json", body) })
	return e
}

// discardingWriter is a response as net/http has it, less the network.
type discardingWriter struct {
	header http.Header
	status int
	length int
}

func (w *discardingWriter) Header() http.Header    { return w.header }
func (w *discardingWriter) WriteHeader(status int) { w.status = status }
func (w *discardingWriter) Write(b []byte) (int, error) {
	w.length += len(b)
	return len(b), nil
}

// text is the call as a client sends it.
func (c call) text() string {
	text := c.method + " " + c.target() + " HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer " + benchToken + "\r\n"
	if c.body != "" {
		text += "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(c.body)) + "\r\n"
	}
	return text + "\r\n" + c.body
}

func (c call) target() string {
	if c == callBatch {
		return "/bench" + c.path
	}
	return c.path
}

// handlers are the edge and what it is compared with, which answers as many bytes.
func (c call) handlers(b *testing.B, a *api) []struct {
	name string
	http.Handler
} {
	b.Helper()
	w := &discardingWriter{header: http.Header{}}
	a.ServeHTTP(w, request(c.method, c.target(), c.body, "Authorization", "Bearer "+benchToken))
	if w.status != http.StatusOK {
		b.Fatalf("%s: status %d", c.name, w.status)
	}
	return []struct {
		name string
		http.Handler
	}{{c.name + ", bare", bare(w.length)}, {c.name, a}}
}

// BenchmarkHandler calls the handler in this goroutine.
func BenchmarkHandler(b *testing.B) {
	a := benchEdge(b)
	for _, c := range []call{callRead, callVerify, callBatch} {
		for _, h := range c.handlers(b, a) {
			b.Run(h.name, func(b *testing.B) {
				conn, hangUp := context.WithCancel(a.ConnContext(b.Context(), nil))
				defer hangUp()
				base := request(c.method, c.target(), c.body, "Authorization", "Bearer "+benchToken)
				base.RemoteAddr = "127.0.0.1:40000"
				b.ReportAllocs()
				perCPU(b, func() {
					for b.Loop() {
						ctx, cancel := context.WithCancel(conn)
						r := base.WithContext(ctx)
						if c.body != "" {
							r.Body = io.NopCloser(strings.NewReader(c.body))
						}
						h.ServeHTTP(&discardingWriter{header: http.Header{}}, r)
						cancel()
					}
				})
			})
		}
	}
}

// BenchmarkServer goes through net/http and loopback, with clients that do next to nothing.
func BenchmarkServer(b *testing.B) {
	a := benchEdge(b)
	for _, c := range []call{callRead, callVerify, callBatch} {
		for _, h := range c.handlers(b, a) {
			b.Run(h.name, func(b *testing.B) {
				server := httptest.NewUnstartedServer(h)
				server.Config.ConnContext = a.ConnContext
				server.Start()
				defer server.Close()
				b.SetParallelism(max(1, 32/runtime.GOMAXPROCS(0)))
				b.ReportAllocs()
				perCPU(b, func() {
					b.RunParallel(func(pb *testing.PB) {
						if err := c.drive(server.Listener.Addr().String(), pb); err != nil {
							b.Error(err)
						}
					})
				})
			})
		}
	}
}

// drive sends one request after the other over one connection.
func (c call) drive(address string, pb *testing.PB) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	send := []byte(c.text())
	in := bufio.NewReader(conn)
	for pb.Next() {
		if _, err := conn.Write(send); err != nil {
			return err
		}
		status, err := in.ReadSlice('\n')
		if err != nil || !bytes.Contains(status, []byte(" 200 ")) {
			return fmt.Errorf("%s, %w", status, err)
		}
		length := 0
		for line := status; len(line) > len("\r\n"); {
			if line, err = in.ReadSlice('\n'); err != nil {
				return err
			}
			if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
			}
		}
		if _, err := in.Discard(length); err != nil {
			return err
		}
	}
	return nil
}

// perCPU reports the processor time of this process per operation.
func perCPU(b *testing.B, run func()) {
	b.Helper()
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	run()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/op")
}
