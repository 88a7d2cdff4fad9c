package process

import (
	"context"
	"os"
	"syscall"
	"testing"
)

func TestFirstSignalEndsTheContextAndTheSecondTheProcess(t *testing.T) {
	t.Parallel()
	received := make(chan os.Signal) // unbuffered: what was sent has been taken
	exited := make(chan int, 1)
	ctx, stop := watch(t.Context(), received, func(status int) { exited <- status })
	defer stop()
	received <- syscall.SIGTERM
	<-ctx.Done()
	select {
	case <-exited:
		t.Fatal("one signal ended the process")
	default:
	}
	received <- syscall.SIGINT
	if status := <-exited; status != 1 {
		t.Errorf("exited with %d", status)
	}
}

func TestWatchingSignalsEnds(t *testing.T) {
	t.Parallel()
	ctx, stop := watch(t.Context(), make(chan os.Signal), nil)
	stop()
	stop()
	if ctx.Err() == nil {
		t.Error("the context goes on")
	}
	ctx, stop = Signals(context.Background(), nil)
	stop()
	stop()
	if ctx.Err() == nil {
		t.Error("the context goes on")
	}
}
