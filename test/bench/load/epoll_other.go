//go:build !linux

package load

import (
	"context"
	"errors"
	"time"
)

func driveEpoll(context.Context, *run) error { return errors.New("epoll is Linux's") }

// processorTime is unknown here.
func processorTime() time.Duration { return 0 }
