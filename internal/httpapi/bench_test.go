package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/telemetry"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// The benchmarks measure what the edge costs, apart from its use cases: the whole handler answers with secrets that are
// there already. Each has "bare" beside it, a gin that answers the same constant bytes, which is what net/http, gin and
// the harness cost; what counts is the ratio within one run.

// benchToken is in the form of a token and names nobody.
const benchToken = "svk_0123456789012345678901234567890123456789abcABC000"

const benchPath = "/v1/secrets/payments/stripe/api-key"

// benchEdge is the handler as a process has it, over a vault that always answers.
func benchEdge(b *testing.B, log io.Writer) *api {
	b.Helper()
	a, err := newAPI(&vault.Vault{}, Config{Log: telemetry.NewLogger(log, slog.LevelInfo), Metrics: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	stored := sample(nil)
	value := []byte("a value of a usual length: 0123456789abcdef0123456789abcdef")
	read := a.secrets[verbItself][http.MethodGet]
	read.handle = func(_ *api, _ context.Context, x *exchange) error {
		if _, err := readRequest(x); err != nil {
			return err
		}
		if x.caller().Address == (netip.Addr{}) {
			b.Error("the caller has no address")
		}
		s := *stored
		s.Material = &secret.Material{Format: secret.Opaque, Value: sensitive.Copy(value)}
		return x.secret(http.StatusOK, &s)
	}
	a.secrets[verbItself][http.MethodGet] = read
	return a
}

// bareGin answers constant bytes with the same headers.
func bareGin(body []byte) http.Handler {
	releaseMode()
	e := gin.New()
	e.GET(secretsPrefix+"*path", func(c *gin.Context) { c.Data(http.StatusOK, "application/json", body) })
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

func benchRequest() *http.Request {
	r := httptest.NewRequest(http.MethodGet, benchPath, nil)
	r.RemoteAddr = "127.0.0.1:40000"
	r.Header = http.Header{"Authorization": {"Bearer " + benchToken}}
	return r
}

// BenchmarkHandler calls the handler in this goroutine.
func BenchmarkHandler(b *testing.B) {
	a := benchEdge(b, io.Discard)
	w := &discardingWriter{header: http.Header{}}
	a.ServeHTTP(w, benchRequest())
	if w.status != http.StatusOK {
		b.Fatalf("status %d", w.status)
	}
	body := make([]byte, w.length)
	for _, c := range []struct {
		name    string
		handler http.Handler
	}{{"bare", bareGin(body)}, {"read", a}} {
		b.Run(c.name, func(b *testing.B) {
			conn, hangUp := context.WithCancel(a.ConnContext(b.Context(), nil))
			defer hangUp()
			base := benchRequest()
			b.ReportAllocs()
			perCPU(b, func() {
				for b.Loop() {
					ctx, cancel := context.WithCancel(conn)
					c.handler.ServeHTTP(&discardingWriter{header: http.Header{}}, base.WithContext(ctx))
					cancel()
				}
			})
		})
	}
}

// BenchmarkServer goes through net/http and loopback, with a client that does next to nothing.
func BenchmarkServer(b *testing.B) {
	a := benchEdge(b, io.Discard)
	w := &discardingWriter{header: http.Header{}}
	a.ServeHTTP(w, benchRequest())
	body := make([]byte, w.length)
	for _, c := range []struct {
		name    string
		handler http.Handler
	}{{"bare", bareGin(body)}, {"read", a}} {
		b.Run(c.name, func(b *testing.B) {
			server := httptest.NewUnstartedServer(c.handler)
			server.Config.ConnContext = a.ConnContext
			server.Start()
			defer server.Close()
			address := server.Listener.Addr().String()
			b.SetParallelism(max(1, 32/runtime.GOMAXPROCS(0)))
			b.ReportAllocs()
			perCPU(b, func() {
				b.RunParallel(func(pb *testing.PB) {
					if err := drive(address, pb); err != nil {
						b.Error(err)
					}
				})
			})
		})
	}
}

// drive sends one request after the other over one connection.
func drive(address string, pb *testing.PB) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	send := []byte("GET " + benchPath + " HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer " + benchToken + "\r\n\r\n")
	in := bufio.NewReader(conn)
	for pb.Next() {
		if _, err := conn.Write(send); err != nil {
			return err
		}
		length := 0
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return err
			}
			if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := in.Discard(length); err != nil {
			return err
		}
	}
	return nil
}

// perCPU reports the processor time of this process per operation, which other processes disturb less than the clock.
func perCPU(b *testing.B, run func()) {
	b.Helper()
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	run()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/op")
}
