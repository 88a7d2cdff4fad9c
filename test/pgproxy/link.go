package pgproxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// link is one client's connection and the one to the server behind it.
type link struct {
	proxy   *Proxy
	client  *net.TCPConn
	server  *net.TCPConn
	session *session
	once    sync.Once
	ended   chan struct{} // closed by cut
	deaf    atomic.Bool   // the client hears nothing more: a cut is under way
}

// greet answers requests for encryption with no, and returns the first message that begins a session.
func greet(client net.Conn, r *bufio.Reader) ([]byte, error) {
	for {
		raw, code, err := readStartup(r)
		if err != nil {
			return nil, err
		}
		switch code {
		case codeTLS, codeGSS:
			if _, err := client.Write([]byte{'N'}); err != nil {
				return nil, err
			}
		default:
			return raw, nil
		}
	}
}

// run serves the link to its end.
func (l *link) run() {
	defer l.client.Close()
	defer l.server.Close()
	fromClient := bufio.NewReader(l.client)
	first, err := greet(l.client, fromClient)
	if err != nil || l.write(l.server, first) != nil {
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() {
		l.pump(Client, fromClient, l.server, l.session.sent)
		l.cut()
	})
	pumps.Go(func() {
		l.pump(Server, bufio.NewReader(l.server), l.client, l.session.answered)
		l.cut()
		// The server may still be at work on what it was sent. It is heard out, so that an unread answer doesn't turn
		// the end of its input into a reset.
		_, _ = io.Copy(io.Discard, l.server)
	})
	pumps.Wait()
}

// cut ends the connection for both, in order: all that was passed on arrives, and then the end.
func (l *link) cut() {
	l.once.Do(func() {
		close(l.ended)
		_ = l.client.Close()
		_ = l.server.CloseWrite()
	})
}

// over tells whether the link was cut, or ended by itself.
func (l *link) over() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

var errCut = errors.New("cut")

func (l *link) pump(side Side, src *bufio.Reader, dst net.Conn, belongs func(message) *exchange) {
	for {
		m, err := readMessage(src)
		if err != nil {
			return
		}
		e := belongs(m)
		if side == Server && l.deaf.Load() {
			return
		}
		if l.pass(side, e, m, dst) != nil {
			return
		}
		if side == Server && m.kind == CommandComplete && e != nil {
			if i := e.exposed.Load(); i != nil {
				if i.Action == ExposeAndHold {
					l.await(i)
				}
				return
			}
		}
	}
}

// pass sends a message on, or does what a fault says in place of that.
func (l *link) pass(side Side, e *exchange, m message, dst net.Conn) error {
	i := l.proxy.match(side, e, m)
	if i == nil {
		return l.write(dst, m.raw)
	}
	switch i.Action {
	case CutBefore:
		return errCut
	case CutAfter:
		if side == Client {
			l.deaf.Store(true) // or the answer might be quicker than the cut
		}
		if err := l.write(dst, m.raw); err != nil {
			return err
		}
		return errCut
	case CutWithin:
		if err := l.write(dst, m.raw[:(len(m.raw)+1)/2]); err != nil {
			return err
		}
		return errCut
	case Swallow:
		l.await(i)
		return errCut
	case Stall:
		l.await(i)
	case Delay:
		select {
		case <-time.After(i.For):
		case <-l.ended:
		}
	case Expose, ExposeAndHold:
		e.exposed.Store(i) // before the server can answer
		return l.write(dst, flush)
	}
	return l.write(dst, m.raw)
}

// await waits until a fault is released, the client leaves or the link is cut.
func (l *link) await(i *Injection) {
	select {
	case <-i.released:
	case <-l.ended:
	}
}

// write writes unless the proxy is frozen, and waits then.
func (l *link) write(dst net.Conn, b []byte) error {
	if err := l.proxy.thawed(l.ended); err != nil {
		return err
	}
	_, err := dst.Write(b)
	return err
}
