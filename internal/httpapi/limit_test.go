package httpapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener within the process, so that a whole server fits into the time of a test.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	close sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.close.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// client is one connection to a server.
type client struct {
	net.Conn
	in *bufio.Reader
}

func (c *client) ask(t *testing.T, path string) {
	t.Helper()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
}

// get asks and gives the status of the answer, and whether the connection ends with it.
func (c *client) get(t *testing.T, path string) (status int, ends bool) {
	t.Helper()
	c.ask(t, path)
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, r.Close
}

// inTime runs a test with a server whose handler has three routes: /v1/slow, which takes a minute if it may, /v1/deaf, which
// does so and doesn't care, and /v1/brief, which takes ten seconds. prepared says whether its connections have a timer.
func inTime(t *testing.T, prepared bool, test func(t *testing.T, e *edge, dial func() *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		takes := func(d time.Duration) func(context.Context, *exchange) error {
			return func(ctx context.Context, x *exchange) error {
				deadline, ok := ctx.Deadline()
				if left := time.Until(deadline); !ok || left != requestTimeout {
					t.Errorf("there are %s left", left)
				}
				inner, cancel := context.WithCancel(ctx) // as use cases do
				defer cancel()
				select {
				case <-time.After(d):
					return x.empty()
				case <-inner.Done():
					return ctx.Err()
				}
			}
		}
		e.route(route{method: "GET", pattern: "/v1/slow"}, takes(time.Minute))
		e.route(route{method: "GET", pattern: "/v1/deaf"}, func(_ context.Context, x *exchange) error {
			time.Sleep(time.Minute)
			return x.empty()
		})
		e.route(route{method: "GET", pattern: "/v1/brief"}, takes(10*time.Second))
		server := &http.Server{Handler: e}
		if prepared {
			server.ConnContext = e.ConnContext
		}
		listener := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		go func() { _ = server.Serve(listener) }()
		test(t, e, func() *client {
			near, far := net.Pipe()
			listener.conns <- far
			t.Cleanup(func() { near.Close() })
			return &client{near, bufio.NewReader(near)}
		})
		synctest.Wait()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestTheTimeLimit(t *testing.T) {
	t.Parallel()
	for name, prepared := range map[string]bool{"with a timer per connection": true, "with a timer per request": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("ends a request with a 503, which is our failure", func(t *testing.T) {
				t.Parallel()
				inTime(t, prepared, func(t *testing.T, e *edge, dial func() *client) {
					began := time.Now()
					c := dial()
					status, ends := c.get(t, "/v1/slow")
					if took := time.Since(began); status != 503 || took != requestTimeout {
						t.Errorf("%d after %s", status, took)
					}
					synctest.Wait()
					if line := e.log.lines(t)[0]; line["level"] != "ERROR" || line["client_gone"] != nil || line["status"] != 503.0 {
						t.Errorf("the log line is %v", line)
					}
					// The connection ends if its requests can't be served any more, and serves them otherwise.
					if ends != prepared {
						t.Errorf("the connection ends: %v", ends)
					}
					if !ends {
						if status, _ := c.get(t, "/v1/brief"); status != 204 {
							t.Errorf("the next one is %d", status)
						}
					}
				})
			})
			t.Run("leaves no connection behind whose next request it would end", func(t *testing.T) {
				t.Parallel()
				inTime(t, prepared, func(t *testing.T, e *edge, dial func() *client) {
					c := dial()
					if status, ends := c.get(t, "/v1/deaf"); status != 204 || ends != prepared {
						t.Errorf("%d, the connection ends: %v", status, ends)
					}
				})
			})
			t.Run("is each request's own", func(t *testing.T) {
				t.Parallel()
				inTime(t, prepared, func(t *testing.T, e *edge, dial func() *client) {
					dial().ask(t, "/v1/slow")
					c := dial()
					for range 10 {
						if status, ends := c.get(t, "/v1/brief"); status != 204 || ends {
							t.Errorf("%d, the connection ends: %v", status, ends)
						}
					}
					time.Sleep(time.Hour) // between two requests there is none
					if status, _ := c.get(t, "/v1/brief"); status != 204 {
						t.Error(status)
					}
				})
			})
			t.Run("is not confused with a client that left", func(t *testing.T) {
				t.Parallel()
				inTime(t, prepared, func(t *testing.T, e *edge, dial func() *client) {
					c := dial()
					c.ask(t, "/v1/slow")
					time.Sleep(time.Second)
					c.Close()
					synctest.Wait()
					line := e.log.lines(t)[0]
					if line["level"] != "INFO" || line["client_gone"] != true || line["duration_ms"] != 1000.0 {
						t.Errorf("the log line is %v", line)
					}
				})
			})
		})
	}
}

func TestTheLimitIsADeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		conn := e.ConnContext(t.Context(), nil)
		r := request("GET", "/v1/status", "").WithContext(conn)
		var l limit
		ctx := l.start(r, time.Now())
		defer l.stop()
		if err := ctx.Err(); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ends with %v", err)
		}
	})
}

func TestOnlyHTTP1ConnectionsShareATimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		conn := e.ConnContext(t.Context(), nil)
		r := request("GET", "/v1/status", "").WithContext(conn)
		r.ProtoMajor = 2
		var l limit
		ctx := l.start(r, time.Now())
		defer l.stop()
		<-ctx.Done()
		if conn.Err() != nil {
			t.Error("the other requests of the connection ended, too")
		}
	})
}

// A request that waits is given what it waits for on top, by the server's write timeout too, and the next one isn't.
func TestARequestThatWaitsHasItsTimeLimitAfterwards(t *testing.T) {
	t.Parallel()
	for name, prepared := range map[string]bool{"with a timer per connection": true, "with a timer per request": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := newEdge(t)
				wait := func(d time.Duration) func(context.Context, *exchange) error {
					return func(_ context.Context, x *exchange) error {
						x.prolong(time.Minute, e.cfg.Clock())
						select {
						case <-time.After(d):
							return x.empty()
						case <-x.ctx.Done():
							return x.ctx.Err()
						}
					}
				}
				e.route(route{method: "GET", pattern: "/v1/patient"}, wait(80*time.Second))
				e.route(route{method: "GET", pattern: "/v1/endless"}, wait(time.Hour))
				e.route(route{method: "GET", pattern: "/v1/slow"}, func(_ context.Context, x *exchange) error {
					<-x.ctx.Done()
					return x.ctx.Err()
				})
				server := &http.Server{Handler: e, WriteTimeout: requestTimeout + answerTime}
				if prepared {
					server.ConnContext = e.ConnContext
				}
				listener := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
				go func() { _ = server.Serve(listener) }()
				near, far := net.Pipe()
				listener.conns <- far
				c := &client{near, bufio.NewReader(near)}
				if status, ends := c.get(t, "/v1/patient"); status != 204 || ends {
					t.Errorf("%d, the connection ends: %v", status, ends)
				}
				began := time.Now()
				if status, _ := c.get(t, "/v1/slow"); status != 503 || time.Since(began) != requestTimeout {
					t.Errorf("the next one: %d after %s", status, time.Since(began))
				}
				near.Close()
				near, far = net.Pipe()
				listener.conns <- far
				c = &client{near, bufio.NewReader(near)}
				began = time.Now()
				if status, _ := c.get(t, "/v1/endless"); status != 503 || time.Since(began) != requestTimeout+time.Minute {
					t.Errorf("one without end: %d after %s", status, time.Since(began))
				}
				near.Close()
				synctest.Wait()
				if err := server.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
