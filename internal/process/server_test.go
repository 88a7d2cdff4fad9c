package process

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func newServer(t *testing.T, handler http.HandlerFunc) *Server {
	t.Helper()
	return newServerOf(t, handler)
}

func newServerOf(t *testing.T, handler http.Handler) *Server {
	t.Helper()
	s, err := NewServer(t.Context(), "test", "127.0.0.1:0", handler, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what is still open is cut off
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustStart(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// send opens a connection and writes to it; what the server answers until it closes comes out of the channel.
func send(t *testing.T, s *Server, text string) <-chan string {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	answer := make(chan string, 1)
	go func() {
		defer conn.Close()
		all, _ := io.ReadAll(bufio.NewReader(conn))
		answer <- string(all)
	}()
	return answer
}

const request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

// preparing is a handler that makes the contexts of its connections.
type preparing struct{ http.HandlerFunc }

type preparedKey struct{}

func (preparing) ConnContext(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, preparedKey{}, conn.RemoteAddr().String())
}

func TestServerHasItsHandlerPrepareConnections(t *testing.T) {
	t.Parallel()
	s := newServerOf(t, preparing{func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(preparedKey{}) == r.RemoteAddr {
			_, _ = io.WriteString(w, "prepared")
		}
	}})
	mustStart(t, s)
	if answer := <-send(t, s, request); !strings.HasSuffix(answer, "prepared") {
		t.Error(answer)
	}
}

func TestServerStopsAfterWhatIsInFlight(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "finished")
	})
	mustStart(t, s)
	mustStart(t, s)
	answer := send(t, s, request)
	<-entered
	stopped := make(chan error)
	go func() { stopped <- s.Stop(context.Background()) }()
	// The listener is closed first; as soon as it is, nobody gets in.
	for refused := false; !refused; {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr().String())
		if refused = err != nil; !refused {
			_ = conn.Close()
		}
	}
	close(release)
	if got := <-answer; !strings.HasSuffix(got, "finished") {
		t.Errorf("in flight and answered with %q", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Errorf("the second time: %v", err)
	}
	select {
	case err := <-s.Part().Failed:
		t.Errorf("stopping counts as failing: %v", err)
	default:
	}
}

func TestServerCutsOffWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	entered, over := make(chan struct{}), make(chan struct{})
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(over)
	})
	mustStart(t, s)
	answer := send(t, s, request)
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("got %v: a slow client is no failure of the process", err)
	}
	<-over
	if got := <-answer; got != "" {
		t.Errorf("answered with %q", got)
	}
}

func TestServerLeavesTimeToWhatIsStoppedNext(t *testing.T) {
	t.Parallel()
	all, cancel := context.WithTimeout(t.Context(), 4*time.Hour)
	defer cancel()
	most, cancelMost := MostOf(all)
	defer cancelMost()
	end, _ := all.Deadline()
	if until, ok := most.Deadline(); !ok || end.Sub(until) < 59*time.Minute {
		t.Errorf("of four hours, %v is left", end.Sub(until))
	}
}

func TestServerThatWasNeverStartedReleasesItsAddress(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustStart(t, s) // to no effect
	again, err := NewServer(t.Context(), "again", s.Addr().String(), nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewServer(t.Context(), "third", again.Addr().String(), nil, quiet); err == nil || !strings.Contains(err.Error(), "third") {
		t.Errorf("got %v, want the listener's name", err)
	}
	if err := again.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestServerTellsThatItFailed(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	if err := s.listener.Close(); err != nil {
		t.Fatal(err)
	}
	mustStart(t, s)
	if err := <-s.Part().Failed; err == nil || !strings.Contains(err.Error(), "serving test") {
		t.Errorf("got %v", err)
	}
}

// The limits are shortened here, one at a time, so that only the one in question can end the connection; the test that
// follows holds the real ones to what was decided.
func TestSlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	t.Run("that never end their headers", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, func(http.ResponseWriter, *http.Request) { t.Error("handled") })
		s.http.ReadHeaderTimeout = 20 * time.Millisecond
		mustStart(t, s)
		<-send(t, s, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	})
	t.Run("that never end their body", func(t *testing.T) {
		t.Parallel()
		var whole atomic.Bool
		s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err == nil {
				whole.Store(true)
			}
		})
		s.http.ReadTimeout = 50 * time.Millisecond
		mustStart(t, s)
		<-send(t, s, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nslow")
		if whole.Load() {
			t.Error("the body was read to its end")
		}
	})
	t.Run("that don't read their answer", func(t *testing.T) {
		t.Parallel()
		wrote := make(chan error, 1)
		s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					wrote <- err
					return
				}
			}
		})
		s.http.WriteTimeout = 50 * time.Millisecond
		mustStart(t, s)
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		if err := <-wrote; err == nil {
			t.Error("the whole answer was written")
		}
	})
	t.Run("that send nothing more", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, func(http.ResponseWriter, *http.Request) {})
		s.http.IdleTimeout = 20 * time.Millisecond
		mustStart(t, s)
		if got := <-send(t, s, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("answered with %q", got)
		}
	})
}

func TestServerLimits(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(http.ResponseWriter, *http.Request) {})
	h := s.http
	if h.ReadHeaderTimeout != 5*time.Second || h.ReadTimeout != 15*time.Second || h.WriteTimeout != 30*time.Second ||
		h.IdleTimeout != 90*time.Second || h.MaxHeaderBytes != 16<<10 {
		t.Errorf("got %v %v %v %v %v", h.ReadHeaderTimeout, h.ReadTimeout, h.WriteTimeout, h.IdleTimeout, h.MaxHeaderBytes)
	}
	mustStart(t, s)
	// net/http allows 4 KiB more than it is told.
	big := "GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + strings.Repeat("a", 20<<10) + "\r\n\r\n"
	if got := <-send(t, s, big); !strings.HasPrefix(got, "HTTP/1.1 431") {
		t.Errorf("headers of 20 KiB were answered with %q", got)
	}
}
