package telemetry

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// writeDelay is how long a line waits at most for others to be written with.
	writeDelay = 50 * time.Millisecond
	// writeSize is how much is written without waiting for more, in bytes.
	writeSize = 32 << 10
	// keptSize is the memory of a batch that is used again: there is room for what comes until the batch is taken.
	keptSize = 2 * writeSize
	// maxHeld bounds what waits while the writer is stuck, in bytes.
	maxHeld = 1 << 20
	// hurryPatience is how long a warning or an error waits until it is written, closePatience the end of a process.
	hurryPatience = 100 * time.Millisecond
	closePatience = time.Second
)

// Buffer gathers the lines of a log and writes many at once, as one system call for each would cost a busy process more
// than the line itself. A line is written after 50 ms, or once there are 32 KiB.
//
// Write never waits for the writer. While that is stuck, as a pipe that nobody reads, lines gather up to 1 MiB; those
// that come then are dropped, and a line tells how many once it works again. Errors of the writer are ignored: there is
// nowhere to report them.
//
// Batches are longer than what a pipe takes as a whole, so the writer should be this process's alone.
type Buffer struct {
	w io.Writer

	mu      sync.Mutex // never held while w is written to
	held    []byte
	spare   []byte // the last batch's memory
	dropped int
	timer   *time.Timer
	armed   bool          // the timer will write what is held
	soon    bool          // it will do so without delay
	busy    bool          // somebody is writing
	again   bool          // who is writing has to go on with what is held
	stuck   bool          // somebody waited in vain; a batch that is written proves the contrary
	written chan struct{} // closed when what is held has been written; nil if nobody waits
	closed  bool
}

// NewBuffer returns a buffer that writes to w, which is written to by one goroutine at a time. The caller must Close it,
// or loses the last lines.
func NewBuffer(w io.Writer) *Buffer {
	b := &Buffer{w: w, held: make([]byte, 0, keptSize), spare: make([]byte, 0, keptSize)}
	b.timer = time.AfterFunc(time.Hour, b.flush)
	b.timer.Stop()
	return b
}

// Write takes one or more whole lines. It reports no errors.
func (b *Buffer) Write(lines []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.held)+len(lines) > maxHeld {
		b.dropped++
		return len(lines), nil
	}
	b.held = append(b.held, lines...)
	switch {
	case b.closed || len(b.held) >= writeSize:
		b.flushSoon()
	case !b.armed:
		b.armed = true
		b.timer.Reset(writeDelay)
	}
	return len(lines), nil
}

// Close writes what is held, for which it takes at most a second. What comes later is written without delay, as far as
// the process lives for it. It is safe twice.
func (b *Buffer) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.await(closePatience)
}

// hurry writes what is held, for which it takes at most a tenth of a second, and nothing while the writer is known to be
// stuck.
func (b *Buffer) hurry() {
	b.mu.Lock()
	stuck := b.stuck
	b.mu.Unlock()
	if !stuck {
		b.await(hurryPatience)
	}
}

// await returns when all that came before has been written, or when its patience is at an end.
func (b *Buffer) await(patience time.Duration) {
	b.mu.Lock()
	if len(b.held) == 0 && !b.busy {
		b.mu.Unlock()
		return
	}
	if b.written == nil {
		b.written = make(chan struct{})
	}
	written := b.written
	b.flushSoon()
	b.mu.Unlock()

	end := time.NewTimer(patience)
	defer end.Stop()
	select {
	case <-written:
	case <-end.C:
		b.mu.Lock()
		b.stuck = true
		b.mu.Unlock()
	}
}

// flushSoon has another goroutine write what is held. The caller holds mu.
func (b *Buffer) flushSoon() {
	if !b.soon {
		b.armed, b.soon = true, true
		b.timer.Reset(0)
	}
}

// flush writes what is held, or leaves that to the goroutine that is writing.
func (b *Buffer) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.again = true
	if b.busy {
		return
	}
	for b.busy = true; b.again; {
		b.writeHeld()
	}
	b.busy = false
}

// writeHeld writes one batch. The caller holds mu, which is free meanwhile.
func (b *Buffer) writeHeld() {
	batch, dropped, written := b.held, b.dropped, b.written
	b.held, b.dropped, b.written = b.spare[:0], 0, nil
	b.spare = nil
	b.armed, b.soon, b.again = false, false, false
	b.mu.Unlock()

	if dropped > 0 {
		batch = fmt.Appendf(batch, `{"time":%q,"level":"WARN","msg":"log lines were dropped, as the log could not be written","lines":%d}`+"\n",
			time.Now().UTC().Format(time.RFC3339Nano), dropped)
	}
	if len(batch) > 0 {
		_, _ = b.w.Write(batch)
	}
	if written != nil {
		close(written)
	}

	b.mu.Lock()
	b.stuck = false
	if cap(batch) <= keptSize {
		b.spare = batch
	}
}
