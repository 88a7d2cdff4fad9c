package reference

import (
	"context"
	"sync"
)

// maxRound bounds how many items one round takes.
const maxRound = 512

// combiner gathers what many requests want done at the same time, for one goroutine to do in rounds: each takes everything
// that came while the one before was under way.
type combiner[T any] struct {
	mu     sync.Mutex
	queued []*ticket[T]
	wake   chan struct{}
	free   sync.Pool
}

type ticket[T any] struct {
	item T
	done chan error
}

func newCombiner[T any]() *combiner[T] {
	return &combiner[T]{
		wake: make(chan struct{}, 1),
		free: sync.Pool{New: func() any { return &ticket[T]{done: make(chan error, 1)} }},
	}
}

// submit returns what the round that took the item came to.
func (c *combiner[T]) submit(item T) error {
	t, _ := c.free.Get().(*ticket[T])
	t.item = item
	c.mu.Lock()
	c.queued = append(c.queued, t)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	err := <-t.done
	c.free.Put(t)
	return err
}

// run does rounds until ctx ends. do does one; what it returns goes to all items of the round, or if each isn't nil, what
// that returns to each.
func (c *combiner[T]) run(ctx context.Context, do func(context.Context, []*ticket[T]) error, each func(int) error) {
	var batch, spare []*ticket[T]
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		batch, c.queued = c.queued, spare[:0]
		c.mu.Unlock()
		for rest := batch; len(rest) > 0; {
			round := rest[:min(len(rest), maxRound)]
			rest = rest[len(round):]
			err := do(ctx, round)
			for i, t := range round {
				if err == nil && each != nil {
					t.done <- each(i)
					continue
				}
				t.done <- err
			}
		}
		spare = batch
	}
}
