package process

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Signals returns a context that ends at the first SIGTERM or SIGINT. A second one means that somebody is tired of
// waiting: it calls exit with status 1 at once, from another goroutine. The caller must call stop when it needs signals
// no more; afterwards they end the process as they do by default.
func Signals(parent context.Context, exit func(status int)) (ctx context.Context, stop func()) {
	received := make(chan os.Signal, 2)
	signal.Notify(received, syscall.SIGTERM, syscall.SIGINT)
	ctx, cancel := watch(parent, received, exit)
	return ctx, func() {
		signal.Stop(received)
		cancel()
	}
}

// watch is Signals without the operating system. The returned function ends its goroutine and waits for that.
func watch(parent context.Context, received <-chan os.Signal, exit func(int)) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for range 2 {
			select {
			case <-received:
				if ctx.Err() != nil {
					exit(1)
					return
				}
				cancel()
			case <-quit:
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
