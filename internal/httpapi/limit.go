package httpapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// requestTimeout bounds a request from its headers to its answer, which is 503 if it takes longer. It only has to end
// what nothing else does: recording, the database and the key keeper have shorter limits of their own. The server's write
// timeout is longer, so that the answer can still be written.
const requestTimeout = 25 * time.Second

var errTimeLimit = errors.New("the time limit of requests has passed")

// connection is the context of a connection, with one timer for the time limit of all its requests. A timer of its own for
// each request, with the contexts around it, was a third of what the edge costs.
//
// Over HTTP/1 a connection has one request at a time, so that to end the connection's context is to end that request. The
// connection is of no more use then.
type connection struct {
	context.Context
	timer *time.Timer
	conn  direct // or nil
}

type connectionKey struct{}

func (c *connection) Value(key any) any {
	if _, ours := key.(connectionKey); ours {
		return c
	}
	return c.Context.Value(key)
}

// ConnContext is for the field of this name of an http.Server that serves the handler. Without it everything works as
// well, at a higher cost.
func (a *api) ConnContext(ctx context.Context, conn net.Conn) context.Context {
	ctx, end := context.WithCancelCause(ctx)
	c := &connection{Context: ctx, timer: time.AfterFunc(requestTimeout, func() { end(errTimeLimit) })}
	c.timer.Stop()
	c.conn, _ = conn.(direct)
	return c
}

// directOf gives a request's connection if plaintext can be sent past the buffers on it.
func directOf(r *http.Request) direct {
	if c, ok := r.Context().Value(connectionKey{}).(*connection); ok && r.ProtoMajor == 1 {
		return c.conn
	}
	return nil
}

// limit is the time limit of one request, and the context of a request whose connection has a timer.
type limit struct {
	context.Context
	deadline time.Time

	timer *time.Timer        // the connection's, or nil
	end   context.CancelFunc // without one
}

func (l *limit) Deadline() (time.Time, bool) { return l.deadline, true }

func (l *limit) Err() error {
	if err := l.Context.Err(); err == nil || !isOverdue(l.Context) {
		return err
	}
	return context.DeadlineExceeded
}

// start gives the context of a request with its time limit. The caller calls stop when it has answered.
func (l *limit) start(r *http.Request, now time.Time) (ctx context.Context) {
	c, ok := r.Context().Value(connectionKey{}).(*connection)
	if !ok || r.ProtoMajor != 1 {
		ctx, l.end = context.WithTimeout(r.Context(), requestTimeout)
		return ctx
	}
	l.Context, l.deadline, l.timer = r.Context(), now.Add(requestTimeout), c.timer
	l.timer.Reset(requestTimeout)
	return l
}

// prolong gives a request more time than others, from now on.
func (l *limit) prolong(r *http.Request, by time.Duration) context.Context {
	if l.timer == nil {
		l.end()
		var ctx context.Context
		ctx, l.end = context.WithTimeout(r.Context(), requestTimeout+by)
		return ctx
	}
	l.deadline = l.deadline.Add(by)
	l.timer.Reset(requestTimeout + by)
	return l
}

func (l *limit) stop() {
	if l.timer == nil {
		l.end()
		return
	}
	l.timer.Stop()
}

// isOverdue tells whether the context of a request ended because of the time limit of a connection.
func isOverdue(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), errTimeLimit)
}
