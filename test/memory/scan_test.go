//go:build linux

package memory

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// prefix is how much of what is searched for makes a find.
const prefix = 16

// needles are what is searched for, by its first bytes, and what it is called.
type needles struct {
	names  map[[prefix]byte]string
	starts []uint64 // a bit for every three bytes that one begins with: nearly all memory is passed over by it
}

func newNeedles() *needles {
	return &needles{names: map[[prefix]byte]string{}, starts: make([]uint64, 1<<24/64)}
}

func (n *needles) add(name string, text []byte) {
	n.names[[prefix]byte(text)] = name
	start := uint32(text[0])<<16 | uint32(text[1])<<8 | uint32(text[2])
	n.starts[start/64] |= 1 << (start % 64)
}

// addKey adds the halves of a key: registers that were spilled hold 16 bytes.
func (n *needles) addKey(name string, key []byte) {
	n.add(name, key[:16])
	n.add(name, key[16:])
}

// found is a place in memory that holds a needle.
type found struct {
	name   string
	where  string // the mapping
	at     uint64
	before string // what lies before it, to tell whose buffer that is
}

func (f found) String() string {
	return fmt.Sprintf("%s at %#x in %s, behind %q", f.name, f.at, f.where, f.before)
}

// scan searches all memory of a process that it may write or has written: heap, stacks, globals, mappings of its own. It returns
// what it found and how many bytes it searched.
func scan(t *testing.T, pid int, n *needles) (finds []found, size uint64) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to, offset, inode uint64
		var mode, device string
		if _, err := fmt.Sscanf(line, "%x-%x %s %x %s %d", &from, &to, &mode, &offset, &device, &inode); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		name := "a mapping of no file"
		if fields := strings.Fields(line); len(fields) > 5 {
			name = fields[5]
		}
		if !strings.HasPrefix(mode, "rw") || name == "[vvar]" {
			continue
		}
		finds = append(finds, scanRange(t, memory, name, from, to, n)...)
		size += to - from
	}
	return finds, size
}

// scanRange searches a mapping a piece at a time; pieces overlap by what a find is long.
func scanRange(t *testing.T, memory io.ReaderAt, name string, from, to uint64, n *needles) (finds []found) {
	t.Helper()
	const piece = 1 << 20
	zeros := make([]byte, piece+prefix-1)
	buffer := make([]byte, piece+prefix-1)
	for at := from; at < to; at += piece {
		part := buffer[:min(uint64(len(buffer)), to-at)]
		if read, err := memory.ReadAt(part, int64(at)); err != nil && !errors.Is(err, io.EOF) {
			part = part[:read] // a guard page
		}
		if bytes.Equal(part, zeros[:len(part)]) {
			continue
		}
		for i := 0; i+prefix <= len(part); i++ {
			start := uint32(part[i])<<16 | uint32(part[i+1])<<8 | uint32(part[i+2])
			if n.starts[start/64]&(1<<(start%64)) == 0 {
				continue
			}
			if what, ok := n.names[[prefix]byte(part[i:])]; ok {
				finds = append(finds, found{what, name, at + uint64(i), string(part[max(0, i-48):i])})
			}
		}
	}
	return finds
}

// names gives the names of what was found, each once.
func names(finds []found) []string {
	var all []string
	for _, f := range finds {
		all = append(all, f.name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// of gives the finds of needles whose names begin in a way.
func of(finds []found, beginning string) (some []found) {
	for _, f := range finds {
		if strings.HasPrefix(f.name, beginning) {
			some = append(some, f)
		}
	}
	return some
}

// firsts leaves one find of each name.
func firsts(finds []found) (first []found) {
	seen := map[string]bool{}
	for _, f := range finds {
		if !seen[f.name] {
			seen[f.name] = true
			first = append(first, f)
		}
	}
	return first
}

func TestScan_FindsWhatLiesAcrossPieces(t *testing.T) {
	t.Parallel()
	memory := make([]byte, 3<<20)
	_, _ = rand.Read(memory)
	n := newNeedles()
	want := []string{"end", "first", "second", "start"}
	for name, at := range map[string]int{"start": 0, "first": 1<<20 - 7, "second": 1<<21 - 16, "end": 3<<20 - 16} {
		n.add(name, memory[at:at+16])
	}
	finds := scanRange(t, bytes.NewReader(memory), "it", 0, uint64(len(memory)), n)
	if len(finds) != 4 || !slices.Equal(names(finds), want) {
		t.Errorf("found %v", finds)
	}
}
