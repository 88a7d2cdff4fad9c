package integrity

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// ErrBadKeyring says that the stored keyring isn't one that can have followed the one that is held: a root that was retired is
// back, or one that was replaced is to be used again. What is held stays in use.
var ErrBadKeyring = errors.New("integrity: an older state of the keyring was put back")

var errClosed = errors.New("integrity: the keyring was closed")

const (
	// followPause is the least time between two looks at the stored keyring, however many rows name keys that nobody made.
	followPause = time.Second
	// followTimeout bounds one look, the keeper's calls included.
	followTimeout = 10 * time.Second
)

// follower looks at the stored keyring again when somebody asks, once for all who wait, and at most about once a second.
type follower struct {
	load   func(context.Context) ([]Root, error)
	keeper Keeper
	failed func(error)
	looks  atomic.Int64

	mu      sync.Mutex
	next    *look // what the next look answers
	running bool
	stopped bool
	ctx     context.Context // ends with the keyring
	cancel  context.CancelFunc
	work    sync.WaitGroup
}

type look struct {
	err  error
	done chan struct{}
}

// Follow says where the stored roots are read, in the order in which they were made, for Refresh. It is called once, before
// anybody else uses the keyring.
func (k *Keyring) Follow(keeper Keeper, load func(context.Context) ([]Root, error)) {
	f := &k.follower
	f.load, f.keeper = load, keeper
	f.ctx, f.cancel = context.WithCancel(context.Background())
}

// OnFailure has fn called with what keeps a look from succeeding from now on, one at a time.
func (k *Keyring) OnFailure(fn func(error)) {
	k.follower.mu.Lock()
	defer k.follower.mu.Unlock()
	k.follower.failed = fn
}

// Refresh waits for a look at the stored keyring that begins after the call: new roots are taken up, and roots that were retired
// dropped. Looks are about a second apart, and only a root that isn't held yet is unwrapped. After an error the keyring is what
// it was. Without Follow it does nothing.
func (k *Keyring) Refresh(ctx context.Context) error {
	if k.follower.load == nil {
		return nil
	}
	one := k.join()
	if one == nil {
		return errClosed
	}
	select {
	case <-one.done:
		return one.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// RefreshSoon has the stored keyring looked at, and waits for nothing.
func (k *Keyring) RefreshSoon() {
	if k.follower.load != nil {
		k.join()
	}
}

// Looks counts the looks at the stored keyring so far.
func (k *Keyring) Looks() int64 { return k.follower.looks.Load() }

// join takes part in the next look; nil means that there are no more.
func (k *Keyring) join() *look {
	f := &k.follower
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return nil
	}
	if f.next == nil {
		f.next = &look{done: make(chan struct{})}
	}
	if !f.running {
		f.running = true
		f.work.Add(1)
		go k.follow()
	}
	return f.next
}

// follow looks as long as somebody waits. It holds no lock that anybody needs who makes or checks a MAC.
func (k *Keyring) follow() {
	f := &k.follower
	defer f.work.Done()
	for {
		f.mu.Lock()
		one := f.next
		f.next, f.running = nil, one != nil
		failed := f.failed
		f.mu.Unlock()
		if one == nil {
			return
		}
		ctx, cancel := context.WithTimeout(f.ctx, followTimeout)
		f.looks.Add(1)
		one.err = k.look(ctx)
		if one.err != nil && failed != nil {
			failed(one.err)
		}
		cancel()
		close(one.done)
		timer := time.NewTimer(followPause)
		select {
		case <-timer.C:
		case <-f.ctx.Done():
			timer.Stop()
		}
	}
}

func (f *follower) stop() {
	f.mu.Lock()
	f.stopped = true
	if f.cancel != nil {
		f.cancel()
	}
	f.mu.Unlock()
	f.work.Wait()
}

// look reads the stored roots, and takes up what they have become.
func (k *Keyring) look(ctx context.Context) error {
	roots, err := k.follower.load(ctx)
	if err != nil {
		return fmt.Errorf("integrity: read the keyring: %w", err)
	}
	k.mu.RLock()
	held := make(map[uuid.UUID]unwrapped, len(k.roots))
	for id, root := range k.roots {
		held[id] = root
	}
	active, retired := k.active, k.retired // nobody changes these: they are replaced
	k.mu.RUnlock()

	next := &Keyring{vaultID: k.vaultID, purposes: k.purposes}
	next.empty()
	if err = next.unwrap(ctx, k.follower.keeper, roots, held); err == nil {
		if err = next.CheckRoots(roots); err == nil {
			err = follows(next, held, active, retired)
		}
	}
	if err != nil {
		for id, root := range next.roots {
			if _, ours := held[id]; !ours {
				root.key.Release()
			}
		}
		return err
	}
	k.adopt(next, retired)
	return nil
}

// follows tells whether a keyring may come after one that held these roots. What was retired stays so, even when its row is gone; and only
// a root that wasn't there yet may take the place of an active one.
func follows(next *Keyring, held map[uuid.UUID]unwrapped, active map[Purpose]uuid.UUID, retired map[uuid.UUID]bool) error {
	for id := range retired {
		if _, back := next.roots[id]; back {
			return fmt.Errorf("%w: key %s was retired", ErrBadKeyring, id)
		}
	}
	for p, id := range next.active {
		if _, known := held[id]; known && active[p] != id {
			return fmt.Errorf("%w: key %s was replaced", ErrBadKeyring, id)
		}
	}
	for id, root := range held {
		if _, kept := next.roots[id]; !kept && !next.retired[id] {
			return fmt.Errorf("%w: the %s key %s is missing", ErrBadKeyring, root.purpose, id)
		}
	}
	return nil
}

// adopt makes next's roots this keyring's.
func (k *Keyring) adopt(next *Keyring, retired map[uuid.UUID]bool) {
	for id := range retired {
		next.retired[id] = true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, root := range k.roots {
		if _, kept := next.roots[id]; !kept {
			root.key.Release()
		}
	}
	for name := range k.rowKeys {
		if next.retired[name.keyID] {
			delete(k.rowKeys, name)
		}
	}
	k.roots, k.active, k.retired = next.roots, next.active, next.retired
}
