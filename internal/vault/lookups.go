package vault

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

const (
	// maxLookups bounds the requests that may wait for a lookup; more are refused at once.
	maxLookups = 8192
	// maxLookupNames bounds the names of one statement. A batch read never has more.
	maxLookupNames = 512
)

var (
	errLookupsFull    = errors.New("too many requests wait for a lookup")
	errLookupsStopped = errors.New("the vault isn't serving")
)

// lookups reads rows that aren't kept: whatever is queued when a statement starts goes along in it, on a connection of their
// own. A request is answered only by a statement that was sent after it came, so that what it is told is no older than it is,
// that a name doesn't exist among others.
type lookups struct {
	vault *Vault

	mu      sync.Mutex
	queue   []*lookup
	stopped bool
	wake    chan struct{}

	// Of the loop alone.
	conn       *postgres.LookupConn
	connection int64 // of the rounds, when conn was made
}

// lookup is one request's names.
type lookup struct {
	names []string
	found map[string]*sealedSecret
	err   error
	done  chan struct{} // closed once found or err is there
	gone  atomic.Bool
}

func newLookups(v *Vault) *lookups { return &lookups{vault: v, wake: make(chan struct{}, 1)} }

// get looks names up. Those that don't exist are missing in what it returns.
func (l *lookups) get(ctx context.Context, names ...string) (map[string]*sealedSecret, error) {
	one := &lookup{names: names, done: make(chan struct{})}
	if err := l.enqueue(one); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "")
	}
	select {
	case <-one.done:
		return one.found, one.err
	case <-ctx.Done():
		one.gone.Store(true)
		return nil, fault.Wrap(fault.Unavailable, context.Cause(ctx), "")
	}
}

func (l *lookups) enqueue(one *lookup) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopped:
		return errLookupsStopped
	case len(l.queue) >= maxLookups:
		return errLookupsFull
	}
	l.queue = append(l.queue, one)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

// take removes what goes along in the next statement.
func (l *lookups) take() []*lookup {
	l.mu.Lock()
	defer l.mu.Unlock()
	var taken []*lookup
	names, n := 0, 0
	for _, one := range l.queue {
		if !one.gone.Load() {
			if len(taken) > 0 && names+len(one.names) > maxLookupNames {
				break
			}
			names += len(one.names)
			taken = append(taken, one)
		}
		n++
	}
	clear(l.queue[:n])
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return taken
}

// run answers lookups until ctx ends.
func (l *lookups) run(ctx context.Context) {
	defer l.shutdown(ctx)
	for ctx.Err() == nil {
		taken := l.take()
		if len(taken) == 0 {
			select {
			case <-ctx.Done():
			case <-l.wake:
			}
			continue
		}
		found, err := l.read(ctx, names(taken))
		for _, one := range taken {
			one.found, one.err = found, err
			close(one.done)
		}
	}
}

// names joins the names of several lookups, each once.
func names(lookups []*lookup) []string {
	var all []string
	seen := map[string]bool{}
	for _, one := range lookups {
		for _, name := range one.names {
			if !seen[name] {
				seen[name] = true
				all = append(all, name)
			}
		}
	}
	return all
}

// read reads and keeps the rows. A connection that turns out to be lost is replaced once.
func (l *lookups) read(ctx context.Context, names []string) (map[string]*sealedSecret, error) {
	ctx, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	rows, connection, err := l.query(ctx, names)
	if err != nil && ctx.Err() == nil && l.conn == nil {
		rows, connection, err = l.query(ctx, names)
	}
	if err != nil {
		return nil, postgres.Fault(err)
	}
	found := make(map[string]*sealedSecret, len(rows))
	readAt := l.vault.cfg.Clock()
	for i := range rows {
		s := &sealedSecret{SealedSecret: rows[i], connection: connection, readAt: readAt}
		found[s.Name] = s
		l.vault.rows.keep(s)
	}
	return found, nil
}

// query makes the statement, on a connection that is no older than that of the rounds: should they have moved to another
// server, what this one would have found is of the past.
func (l *lookups) query(ctx context.Context, names []string) ([]postgres.SealedSecret, int64, error) {
	connection := l.vault.trail.Connection()
	if l.conn != nil && (l.connection != connection || l.conn.IsClosed()) {
		l.drop(ctx)
	}
	if l.conn == nil {
		conn, err := l.vault.db.LookupConn(ctx)
		if err != nil {
			return nil, 0, err
		}
		l.conn, l.connection = conn, connection
		l.vault.rows.dropAll()
	}
	rows, err := l.conn.Sealed(ctx, names)
	if err != nil && l.conn.IsClosed() {
		l.drop(ctx)
	}
	return rows, connection, err
}

func (l *lookups) drop(ctx context.Context) {
	if l.conn != nil {
		l.conn.Close(ctx)
		l.conn = nil
	}
}

// shutdown refuses what is still queued.
func (l *lookups) shutdown(ctx context.Context) {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	for taken := l.take(); len(taken) > 0; taken = l.take() {
		for _, one := range taken {
			one.err = fault.Wrap(fault.Unavailable, errLookupsStopped, "")
			close(one.done)
		}
	}
	l.drop(ctx)
}
