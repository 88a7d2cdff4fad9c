package boot

import "sync"

// closers releases what was acquired, in the opposite order, once.
type closers struct {
	mu  sync.Mutex
	all []func()
}

func (c *closers) add(closer func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, closer)
}

func (c *closers) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.all) - 1; i >= 0; i-- {
		c.all[i]()
	}
	c.all = nil
}
