// Package pgproxy is a proxy on loopback between PostgreSQL and its clients. It follows the messages of the wire protocol
// (version 3, without encryption), knows which statement each belongs to, and breaks a connection at a chosen one: to learn
// what becomes of a client whose answer is lost just before, within or just after a commit.
//
// Invariants:
//   - Without a fault it changes nothing but that it refuses encryption.
//   - What was passed on before a cut arrives: a cut is the end of the stream, not a reset.
//   - Close leaves no goroutine and no connection.
package pgproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Proxy stands between clients and one server.
type Proxy struct {
	target   string
	classify Classifier
	listener net.Listener
	work     sync.WaitGroup

	mu     sync.Mutex
	faults []*Injection
	links  map[*link]bool
	refuse bool
	frozen chan struct{} // closed on thawing; nil while not frozen
	closed bool
}

// New starts a proxy. Connect names its server. It ends with the test.
func New(t testing.TB, classify Classifier) *Proxy {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{classify: classify, listener: listener, links: map[*link]bool{}}
	p.work.Go(p.accept)
	t.Cleanup(p.Close)
	return p
}

// Through takes the URL of a server on TCP, makes it the proxy's server, and returns the URL through the proxy.
func (p *Proxy) Through(direct string) (string, error) {
	u, err := url.Parse(direct)
	if err != nil {
		return "", errors.New("pgproxy: that is no URL")
	}
	if u.Port() == "" {
		return "", fmt.Errorf("pgproxy: the URL of %s names no TCP port", u.Host)
	}
	p.mu.Lock()
	p.target = u.Host
	p.mu.Unlock()
	u.Host = p.listener.Addr().String()
	return u.String(), nil
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.serve(conn.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	p.mu.Lock()
	target, refuse := p.target, p.refuse || p.closed
	p.mu.Unlock()
	if refuse {
		_ = client.Close()
		return
	}
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", target)
	if err != nil {
		_ = client.Close()
		return
	}
	l := &link{
		proxy: p, client: client, server: server.(*net.TCPConn), session: newSession(p.classify),
		ended: make(chan struct{}),
	}
	p.mu.Lock()
	p.links[l] = true
	late := p.refuse || p.closed
	p.mu.Unlock()
	if late {
		l.cut()
	}
	l.run()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// CutAll ends every connection at once. New ones are accepted.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
}

// CutThose ends every connection on which a statement of that kind was ever sent, and says how many that were. A connection
// that a client keeps for one purpose is told by what it is used for; so is one that is idle now.
func (p *Proxy) CutThose(kind string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for l := range p.links {
		if l.session.hasRun(kind) && !l.over() {
			l.cut()
			n++
		}
	}
	return n
}

// Refuse makes the proxy end every new connection at once, or accept again.
func (p *Proxy) Refuse(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}

// Freeze stops passing anything on, in both directions, until Thaw. Connections stay open.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen == nil && !p.closed {
		p.frozen = make(chan struct{})
	}
}

// Thaw ends a Freeze.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
}

func (p *Proxy) thawed(ended <-chan struct{}) error {
	p.mu.Lock()
	frozen := p.frozen
	p.mu.Unlock()
	if frozen == nil {
		return nil
	}
	select {
	case <-frozen:
		return nil
	case <-ended:
		return errCut
	}
}

// Close ends everything. Closing twice is the same as once.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for l := range p.links {
		l.cut()
		_ = l.server.Close()
	}
	p.mu.Unlock()
	p.Thaw()
	p.work.Wait()
}
