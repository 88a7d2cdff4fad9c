package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// What a client may take. A body is at most 1 MiB, so these are generous for honest clients on bad networks; they bound
// how long any other can hold a connection.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second // headers and body
	writeTimeout      = 30 * time.Second // from the end of the headers to the end of the answer
	idleTimeout       = 90 * time.Second // longer than a load balancer keeps its connections, so that it closes them
	maxHeaderBytes    = 16 << 10
)

// Server is an HTTP server on one address. Start and Stop may be called any number of times and in any order; what was
// stopped doesn't start again.
type Server struct {
	name     string
	http     *http.Server
	log      *slog.Logger
	listener net.Listener
	failed   chan error
	served   chan struct{}

	mu      sync.Mutex
	started bool
	stopped bool
}

// connPreparer is a handler that makes the context of each connection, as http.Server's ConnContext does.
type connPreparer interface {
	ConnContext(ctx context.Context, conn net.Conn) context.Context
}

// NewServer returns a server that is bound to address (host:port), so that it is known which port the system chose, and
// that takes no connection before Start. A handler that has a method ConnContext makes the contexts of its connections.
// name is for the log. The caller must Stop it, also without a Start.
func NewServer(ctx context.Context, name, address string, handler http.Handler, log *slog.Logger) (*Server, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for %s: %w", name, err)
	}
	log = log.With("listener", name)
	s := &Server{
		name: name, log: log, listener: listener,
		failed: make(chan error, 1), served: make(chan struct{}),
		http: &http.Server{
			Handler:           handler,
			ReadHeaderTimeout: readHeaderTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		},
	}
	if p, ok := handler.(connPreparer); ok {
		s.http.ConnContext = p.ConnContext
	}
	return s, nil
}

// Addr is the address that the server is bound to.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Part is the server as a part of a process.
func (s *Server) Part() Part {
	return Part{Name: s.name + " listener", Start: s.Start, Stop: s.Stop, Failed: s.failed}
}

// Start begins to take connections. Requests live by their own connections, not by ctx.
func (s *Server) Start(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.stopped {
		return nil
	}
	s.started = true
	s.log.Info("listening", "address", s.Addr().String())
	go func() {
		defer close(s.served)
		if err := s.http.Serve(listener{s.listener}); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serving %s: %w", s.name, err)
		}
	}()
	return nil
}

// Stop takes no more connections and waits for the requests in flight. It leaves a quarter of the time until ctx's
// deadline to what is to be stopped after it: requests that aren't over by then are cut off, which is logged and is no
// error, because a client that doesn't read its answer must not decide how this process ends.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	if !s.started {
		return s.listener.Close()
	}
	ctx, cancel := MostOf(ctx)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.log.Warn("requests that took too long were cut off", "error", err)
		err = s.http.Close()
	}
	<-s.served
	return err
}

// MostOf returns a context that ends after three quarters of the time that ctx has left: for a part that what others do may keep
// from stopping, and that is to leave something to the parts that stop after it.
func MostOf(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)*3/4)
}
