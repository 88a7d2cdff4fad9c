package kms

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestCache_ConcurrentMissesMakeOneCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, inner := newCache(t, CacheConfig{})
		key := make1(t, c, version(1))
		release := make(chan struct{})
		inner.before = func(context.Context) error { <-release; return nil }
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() { read(t, c, key, version(1)) })
		}
		gone, leave := context.WithCancel(t.Context())
		var left error
		all.Go(func() { _, left = c.Decrypt(gone, key.Wrapped, key.KeyID, version(1)) })
		synctest.Wait()
		leave()
		synctest.Wait()
		if fault.KindOf(left) != fault.Unavailable || !errors.Is(left, context.Canceled) {
			t.Errorf("who left got %v", left)
		}
		close(release)
		all.Wait()
		if n := inner.decrypts.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
		c.Close()
		if !allZero(c.arena) && c.arena.memory != nil {
			t.Error("keys are left in memory")
		}
	})
}

func TestCache_TheFirstCallersEndIsNotTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, inner := newCache(t, CacheConfig{})
		key := make1(t, c, version(1))
		inner.before = func(ctx context.Context) error {
			select {
			case <-time.After(time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		first, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := c.Decrypt(first, key.Wrapped, key.KeyID, version(1)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the first got %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() { read(t, c, key, version(1)) })
		all.Wait()
		if n := inner.decrypts.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestCache_WhatNobodyWaitsForEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, inner := newCache(t, CacheConfig{})
		key := make1(t, c, version(1))
		var ended atomic.Int64
		inner.before = func(ctx context.Context) error { <-ctx.Done(); ended.Add(1); return ctx.Err() }
		ctx, leave := context.WithCancel(t.Context())
		go func() { _, _ = c.Decrypt(ctx, key.Wrapped, key.KeyID, version(1)) }()
		synctest.Wait()
		leave()
		synctest.Wait()
		if ended.Load() != 1 {
			t.Fatal("a call that nobody waits for goes on")
		}
		inner.before = nil
		read(t, c, key, version(1)) // and doesn't stand in the way of the next
	})
}

func TestCache_ErrorsAndPanicsAreNotKept(t *testing.T) {
	t.Parallel()
	c, inner := newCache(t, CacheConfig{})
	key := make1(t, c, version(1))
	down := fault.Wrap(fault.Unavailable, io.EOF, "")
	for name, f := range map[string]struct {
		before func(context.Context) error
		want   error
	}{
		"an error":                  {func(context.Context) error { return down }, down},
		"a panic":                   {func(context.Context) error { panic("boom") }, errPanicked},
		"an end without returning":  {func(context.Context) error { runtime.Goexit(); return nil }, errPanicked},
		"a panic of another nature": {func(context.Context) error { var m map[int]int; m[0] = 1; return nil }, errPanicked}, //nolint:staticcheck // that is the point
	} {
		inner.before = f.before
		if _, err := c.Decrypt(t.Context(), key.Wrapped, key.KeyID, version(1)); !errors.Is(err, f.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	inner.before = nil
	read(t, c, key, version(1))
	if n := inner.decrypts.Load(); n != 5 {
		t.Errorf("%d calls", n)
	}
}
