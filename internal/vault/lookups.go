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
	maxLookupNames = 256
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
	wanted []postgres.Wanted
	found  *found
	err    error
	done   chan struct{} // closed once found or err is there
	gone   atomic.Bool
}

// found is what one statement found, and on which of the rounds' connections it looked. Nobody changes it.
type found struct {
	secrets    map[string]*sealedSecret
	lost       map[string]error // why a name that wasn't found may not be taken to be nobody's
	connection int64
}

func newLookups(v *Vault) *lookups { return &lookups{vault: v, wake: make(chan struct{}, 1)} }

// get looks names up, each given once, with their current versions or with all valid ones. Those that don't exist are missing
// in what it returns.
func (l *lookups) get(ctx context.Context, all bool, names ...string) (*found, error) {
	one := &lookup{wanted: make([]postgres.Wanted, len(names)), done: make(chan struct{})}
	for i, name := range names {
		one.wanted[i] = postgres.Wanted{Name: name, All: all}
	}
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
			if len(taken) > 0 && names+len(one.wanted) > maxLookupNames {
				break
			}
			names += len(one.wanted)
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
		l.answer(ctx, taken)
	}
}

// answer answers lookups by one statement. If that fails on what some of them want (a row that the server can't put together, or
// the driver can't read), they are halved until those are alone, so that nobody else's read fails with them.
func (l *lookups) answer(ctx context.Context, taken []*lookup) {
	found, err := l.read(ctx, wantedBy(taken))
	if err != nil && len(taken) > 1 && fault.KindOf(err) == fault.Internal {
		l.answer(ctx, taken[:len(taken)/2])
		l.answer(ctx, taken[len(taken)/2:])
		return
	}
	for _, one := range taken {
		one.found, one.err = found, err
		close(one.done)
	}
}

// wantedBy joins what several lookups want, each name once.
func wantedBy(lookups []*lookup) []postgres.Wanted {
	var joined []postgres.Wanted
	at := map[string]int{}
	for _, one := range lookups {
		for _, w := range one.wanted {
			i, seen := at[w.Name]
			if !seen {
				i = len(joined)
				at[w.Name] = i
				joined = append(joined, w)
			}
			joined[i].All = joined[i].All || w.All
		}
	}
	return joined
}

// read reads and keeps the rows. What fails is tried once more: a connection that turns out to be lost is replaced, and a plan
// that no longer fits its tables is made anew.
func (l *lookups) read(ctx context.Context, wanted []postgres.Wanted) (*found, error) {
	ctx, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	l.vault.metrics.statements.Inc()
	since := l.vault.seen.begin()
	rows, connection, err := l.query(ctx, wanted)
	if err != nil && ctx.Err() == nil {
		rows, connection, err = l.query(ctx, wanted)
	}
	if err != nil {
		return nil, postgres.Fault(err)
	}
	f := &found{secrets: make(map[string]*sealedSecret, len(rows)), connection: connection}
	readAt := l.vault.cfg.Clock()
	for i := range rows {
		s := &sealedSecret{SealedSecret: rows[i], connection: connection, readAt: readAt}
		f.secrets[s.Name] = s
		l.verify(ctx, s, since)
	}
	for _, w := range wanted {
		if f.secrets[w.Name] != nil {
			continue
		}
		if err := l.vault.checkMissing(ctx, l.vault.db, w.Name, since); err != nil {
			if f.lost == nil {
				f.lost = map[string]error{}
			}
			f.lost[w.Name] = err
		}
	}
	return f, nil
}

// verify keeps a secret that is as the vault wrote it, and says what is wrong with one that isn't.
func (l *lookups) verify(ctx context.Context, s *sealedSecret, since int64) {
	if s.damage = l.vault.checkSealed(&s.SealedSecret); s.damage != nil {
		return
	}
	for i := range s.Versions {
		l.vault.noteKey(s.Versions[i].KeyID)
	}
	l.vault.noteKey(s.KeyID)
	s.Others = nil // they were only to be verified
	var sure bool
	if sure, s.damage = l.vault.checkRevision(ctx, l.vault.db, &s.VaultSecret, since); sure {
		l.vault.rows.keep(s)
	}
}

// query makes the statement, on a connection that is no older than that of the rounds: should they have moved to another
// server, what this one would have found is of the past.
func (l *lookups) query(ctx context.Context, wanted []postgres.Wanted) ([]postgres.SealedSecret, int64, error) {
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
	rows, err := l.conn.Sealed(ctx, wanted)
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

// stop refuses what comes from now on.
func (l *lookups) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
}

// shutdown refuses what is still queued.
func (l *lookups) shutdown(ctx context.Context) {
	l.stop()
	for taken := l.take(); len(taken) > 0; taken = l.take() {
		for _, one := range taken {
			one.err = fault.Wrap(fault.Unavailable, errLookupsStopped, "")
			close(one.done)
		}
	}
	l.drop(ctx)
}
