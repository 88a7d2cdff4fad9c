package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// drivers runs a test with each client that works here.
func drivers(t *testing.T, test func(t *testing.T, portable bool)) {
	t.Run("portable", func(t *testing.T) {
		t.Parallel()
		test(t, true)
	})
	if runtime.GOOS == "linux" {
		t.Run("epoll", func(t *testing.T) {
			t.Parallel()
			test(t, false)
		})
	}
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func spec(address string, portable bool) Spec {
	return Spec{
		Address: address, Connections: 4, Portable: portable, Requests: 1000, First: 50, Status: 200,
		Request: Request("GET", Text("/").Number(6, Slot{Times: 1}), address, "", Template{}),
		Expect:  []Template{Text("you asked for /").Number(6, Slot{Times: 1})},
	}
}

func TestEachNumberIsAskedForOnceAndEveryAnswerIsCounted(t *testing.T) {
	t.Parallel()
	drivers(t, func(t *testing.T, portable bool) {
		var mu sync.Mutex
		asked := map[string]int{}
		address := serve(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked[r.URL.Path]++
			mu.Unlock()
			fmt.Fprintf(w, "you asked for %s", r.URL.Path)
		})
		r, err := Run(t.Context(), spec(address, portable))
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if r.Answered != 1000 || r.Measured != 1000 || r.Next != 1050 || len(asked) != 1000 || asked["/000050"] != 1 || asked["/001049"] != 1 {
			t.Errorf("%+v, %d were asked for", r, len(asked))
		}
		if r.P50 <= 0 || r.P99 < r.P50 || r.Max < r.P99 || r.Elapsed <= 0 || r.Rate() <= 0 {
			t.Errorf("%+v", r)
		}
	})
}

func TestWarmUpCountsAsAnsweredAndNotAsMeasured(t *testing.T) {
	t.Parallel()
	drivers(t, func(t *testing.T, portable bool) {
		var served atomic.Uint64
		address := serve(t, func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			fmt.Fprintf(w, "you asked for %s", r.URL.Path)
		})
		s := spec(address, portable)
		s.Requests, s.Warmup, s.Duration = 0, 100*time.Millisecond, 100*time.Millisecond
		r, err := Run(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if r.Answered != served.Load() || r.Next-50 != r.Answered || r.Measured == 0 || r.Measured >= r.Answered {
			t.Errorf("%+v, %d were served", r, served.Load())
		}
		if r.Elapsed < s.Duration {
			t.Errorf("it measured for %s", r.Elapsed)
		}
	})
}

func TestALargeAnswerInPiecesIsOneAnswer(t *testing.T) {
	t.Parallel()
	drivers(t, func(t *testing.T, portable bool) {
		filler := strings.Repeat("x", 100_000)
		address := serve(t, func(w http.ResponseWriter, r *http.Request) {
			last := "you asked for " + r.URL.Path
			w.Header().Set("Content-Length", fmt.Sprint(len(filler)+len(last)))
			_, _ = io.WriteString(w, filler[:50_000])
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, filler[50_000:]+last)
		})
		s := spec(address, portable)
		s.Requests = 50
		if r, err := Run(t.Context(), s); err != nil || r.Answered != 50 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestALoadFailsLoudly(t *testing.T) {
	t.Parallel()
	drivers(t, func(t *testing.T, portable bool) {
		for name, test := range map[string]struct {
			handler http.HandlerFunc
			wrong   string
		}{
			"on another status": {func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/000500" {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				fmt.Fprintf(w, "you asked for %s", r.URL.Path)
			}, "503 in place of 200"},
			"on a wrong value": {func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "you asked for %s", strings.Replace(r.URL.Path, "500", "501", 1))
			}, "lacks"},
			"on a connection that ends": {func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/000500" {
					panic(http.ErrAbortHandler)
				}
				fmt.Fprintf(w, "you asked for %s", r.URL.Path)
			}, ""},
		} {
			r, err := Run(t.Context(), spec(serve(t, test.handler), portable))
			if err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		nobody := listener.Addr().String()
		_ = listener.Close()
		if r, err := Run(t.Context(), spec(nobody, portable)); err == nil {
			t.Errorf("where nobody listens: %+v", r)
		}
	})
}

func TestALoadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	drivers(t, func(t *testing.T, portable bool) {
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		address := serve(t, func(w http.ResponseWriter, r *http.Request) {
			cancel()
			<-release // it never answers while the load runs
			fmt.Fprintf(w, "you asked for %s", r.URL.Path)
		})
		_, err := Run(ctx, spec(address, portable))
		close(release)
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestALoadWithoutAnEndIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := Run(t.Context(), Spec{Address: "127.0.0.1:1", Connections: 1}); err == nil {
		t.Error("it ran")
	}
}
