package kms

import (
	"sync"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// arena holds data keys in memory of its own, outside the Go heap, where the collector neither copies nor scans. As far
// as the system allows, that memory is locked (it is never swapped out), left out of core dumps, and wiped in a forked child.
type arena struct {
	memory []byte
	locked error // nil, or why the memory isn't locked
	slots  int

	mu     sync.Mutex
	free   []uint32 // the slots that hold nothing
	closed bool
}

// newArena maps room for a number of data keys. That it couldn't be locked is no error: see arena.locked.
func newArena(slots int) (*arena, error) {
	memory, locked, err := mapMemory(slots * DataKeySize)
	if err != nil {
		return nil, err
	}
	a := &arena{memory: memory, locked: locked, slots: slots, free: make([]uint32, slots)}
	for i := range a.free {
		a.free[i] = uint32(slots - 1 - i) //nolint:gosec // an index of a few thousand slots
	}
	return a, nil
}

// put copies a data key, of DataKeySize bytes, into a free slot. When the last reference to it goes it is zeroed and its slot
// is free again. Should there be no free one, because of many keys that are in use though the cache gave them up, the
// copy lies in the heap.
func (a *arena) put(key []byte) *sensitive.Shared {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.free) == 0 {
		return sensitive.NewShared(append([]byte(nil), key...), nil)
	}
	slot := a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	at := int(slot) * DataKeySize
	room := a.memory[at : at+DataKeySize : at+DataKeySize]
	copy(room, key)
	return sensitive.NewShared(room, func() { a.giveBack(slot) })
}

func (a *arena) giveBack(slot uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free = append(a.free, slot)
	a.unmapIfOver()
}

// close lets the memory go, once the last key in it is released.
func (a *arena) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.unmapIfOver()
}

// unmapIfOver must not unmap what somebody still reads: that would end the process.
func (a *arena) unmapIfOver() {
	if a.closed && a.memory != nil && len(a.free) == a.slots {
		unmapMemory(a.memory)
		a.memory = nil
	}
}
