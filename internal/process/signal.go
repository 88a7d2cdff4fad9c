package process

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// sameWish is how long after the first signal another one says nothing new: supervisors and terminals often signal a
// process and then its whole group.
const sameWish = time.Second

// Signals returns a context that ends at the first SIGTERM or SIGINT. Another one, more than a second later, means that
// somebody is tired of waiting: it calls exit with status 1 at once, from another goroutine. The caller must call stop
// when it needs signals no more; afterwards they end the process as they do by default.
func Signals(parent context.Context, exit func(status int)) (ctx context.Context, stop func()) {
	received := make(chan os.Signal, 2)
	signal.Notify(received, syscall.SIGTERM, syscall.SIGINT)
	ctx, cancel := watch(parent, received, exit, time.Now)
	return ctx, func() {
		signal.Stop(received)
		cancel()
	}
}

// watch is Signals without the operating system. The returned function ends its goroutine and waits for that.
func watch(parent context.Context, received <-chan os.Signal, exit func(int), clock func() time.Time) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var first time.Time
		for {
			select {
			case <-received:
			case <-quit:
				return
			}
			switch now := clock(); {
			case first.IsZero():
				first = now
				cancel()
			case now.Sub(first) > sameWish:
				exit(1)
				return
			}
		}
	}()
	var stopped bool
	return ctx, func() {
		cancel()
		if !stopped {
			stopped = true
			close(quit)
		}
		<-done
	}
}
