package webhook

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/target"
)

// window is what memory is read through. It is a variable of the program so that it is at one place, which is passed over.
var window [1 << 20]byte

// copies counts how often first followed by second is in this process's memory. Neither is kept next to the other, so that the search
// doesn't find itself.
func copies(t *testing.T, first, second []byte) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Skip(err)
	}
	defer memory.Close()
	defer clear(window[:])
	own := uint64(uintptr(unsafe.Pointer(&window)))
	count := 0
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		step := uint64(len(window) - len(first) - len(second))
		for at := from; at < to; at += step {
			if at < own+uint64(len(window)) && own < at+uint64(len(window)) {
				continue
			}
			n, _ := memory.ReadAt(window[:min(uint64(len(window)), to-at)], int64(at))
			for rest := window[:n]; ; {
				i := bytes.Index(rest, first)
				if i < 0 {
					break
				}
				if rest = rest[i+len(first):]; bytes.HasPrefix(rest, second) {
					count++
				}
			}
		}
	}
	return count
}

// It isn't parallel: the memory of other tests' requests is none of its business.
func TestI1_NothingIsLeftInMemoryOfAValueThatWasSent(t *testing.T) {
	it := newTarget(t, startReceiver(t, string(keyB)))
	for _, length := range []int{256, 263, 270, 1000} { // the last is in two pieces
		send(t, it, length)
	}
}

// send sends a value of that length that nobody else knows, and looks for what is left of it.
func send(t *testing.T, it *Target, length int) {
	t.Helper()
	random := make([]byte, 128)
	if _, err := randomness.Reader.Read(random); err != nil {
		t.Fatal(err)
	}
	first, second := make([]byte, 128), make([]byte, 200)[:128] // of two sizes, which never lie side by side
	hex.Encode(first, random[:64])
	hex.Encode(second, random[64:])
	value := bytes.Repeat([]byte("x"), length)
	copy(value, first)
	copy(value[128:], second)

	e := event()
	e.ID, e.SecretID, e.Value = uuid.New(), uuid.New(), sensitive.Take(value)
	if n := copies(t, first, second); n != 1 {
		t.Fatalf("control: %d copies of the value itself were found", n)
	}
	if err := it.Send(t.Context(), e, keys(keyB)); err != nil {
		t.Fatal(err)
	}
	e.ID = uuid.New() // of the same generation, which is refused
	if err := it.Send(t.Context(), e, keys(keyB)); target.ClassOf(err) != target.Outdated {
		t.Fatal(err)
	}
	e.Value.Release()
	runtime.KeepAlive(value)
	if n := copies(t, first, second); n != 0 {
		t.Errorf("%d copies of a value of %d bytes are left", n, length)
	}
}
