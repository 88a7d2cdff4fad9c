package pgproxy

import (
	"sync"
	"time"
)

// Side says who sends a message.
type Side uint8

// The two sides.
const (
	Client Side = iota
	Server
)

func (s Side) String() string {
	if s == Client {
		return "client"
	}
	return "server"
}

// Action is what is done at the message that a fault is aimed at.
type Action uint8

const (
	// CutBefore ends the connection in place of the message. The server is left alone with what it has and sees the
	// end of its input; the client sees the end of its own. Before ReadyForQuery, this swallows it and closes.
	CutBefore Action = iota
	// CutAfter ends the connection right after the message: what the client sent still arrives and takes effect.
	CutAfter
	// CutWithin passes half of the message on and then ends the connection.
	CutWithin
	// Swallow drops the message and holds the connection open. Release cuts it.
	Swallow
	// Stall holds the message back, and with it everything behind it, until Release.
	Stall
	// Delay holds the message back for a while.
	Delay
	// Expose is for a client's Sync. It goes out as a Flush, so that the server hands over the whole answer to a
	// statement that it has not committed, and then the connection is cut: a CommandComplete is no commit.
	Expose
	// ExposeAndHold is Expose, but the cut waits for Release: meanwhile the server keeps the transaction and its locks.
	ExposeAndHold
)

var actionNames = [...]string{"cut before", "cut after", "cut within", "swallow", "stall", "delay", "expose", "expose and hold"}

func (a Action) String() string { return actionNames[a] }

// Fault strikes at a message of a kind of statement.
type Fault struct {
	Kind    string
	Side    Side
	Message byte // its type; 0 is any
	Action  Action
	For     time.Duration // of a Delay
	Times   int           // how often it strikes; 0 means once, less than 0 until it is withdrawn
}

// Injection is a fault that was given to a Proxy.
type Injection struct {
	Fault

	proxy    *Proxy
	left     int
	count    int
	struck   chan struct{}
	released chan struct{}
	release  sync.Once
}

// Inject arms a fault. Of several that fit a message the one that was injected first strikes.
func (p *Proxy) Inject(f Fault) *Injection {
	i := &Injection{Fault: f, proxy: p, left: max(f.Times, 1), struck: make(chan struct{}), released: make(chan struct{})}
	if f.Times < 0 {
		i.left = -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, i)
	return i
}

// Struck is closed when the fault has struck for the first time.
func (i *Injection) Struck() <-chan struct{} { return i.struck }

// Count says how often it has struck.
func (i *Injection) Count() int {
	i.proxy.mu.Lock()
	defer i.proxy.mu.Unlock()
	return i.count
}

// Release lets go of what the fault holds.
func (i *Injection) Release() { i.release.Do(func() { close(i.released) }) }

// Withdraw disarms the fault and releases what it holds.
func (i *Injection) Withdraw() {
	i.proxy.mu.Lock()
	i.left = 0
	i.proxy.mu.Unlock()
	i.Release()
}

// match says which fault strikes at a message, if any.
func (p *Proxy) match(side Side, e *exchange, m message) *Injection {
	if e == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.faults {
		if i.left == 0 || i.Side != side || i.Kind != e.kind || (i.Message != 0 && i.Message != m.kind) {
			continue
		}
		if i.left > 0 {
			i.left--
		}
		if i.count++; i.count == 1 {
			close(i.struck)
		}
		return i
	}
	return nil
}
