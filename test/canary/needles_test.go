package canary

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// chunkSize is how many bytes of a form in a row count as a find. Chunks are short, so that what was cut, or lies across the
// pages of a file, is found all the same, and long enough that none is found by chance.
const chunkSize = 16

type chunk [chunkSize]byte

// needles are what is searched for, in every form in which it could have been written down.
type needles struct {
	chunks map[chunk]string
	starts []uint64 // a bit for every three bytes that a chunk begins with: nearly all data is passed over by it
}

func newNeedles() *needles {
	return &needles{chunks: map[chunk]string{}, starts: make([]uint64, 1<<24/64)}
}

// add adds content, of which any 31 bytes in a row of any form will be found.
func (n *needles) add(what string, content []byte) {
	if len(content) < chunkSize {
		panic(what + " is too short to be told from chance")
	}
	for form, text := range forms(content) {
		for at := 0; at+chunkSize <= len(text); at += chunkSize {
			n.addChunk(what+form, text[at:])
		}
		n.addChunk(what+form, text[len(text)-chunkSize:])
	}
}

func (n *needles) addChunk(what string, text []byte) {
	c := chunk(text[:chunkSize])
	if _, known := n.chunks[c]; !known {
		n.chunks[c] = what
	}
	start := uint32(c[0])<<16 | uint32(c[1])<<8 | uint32(c[2])
	n.starts[start/64] |= 1 << (start % 64)
}

// addWord adds text that is searched for as it is.
func (n *needles) addWord(what, text string) { n.addChunk(what, []byte(text)) }

// forms gives content as it could be written down: as it is, in base64 wherever it lies in what was encoded, in
// hexadecimal, and as Go prints bytes.
func forms(content []byte) map[string][]byte {
	lower := hex.EncodeToString(content)
	all := map[string][]byte{
		"":                       content,
		" in hexadecimal":        []byte(lower),
		" in HEXADECIMAL":        []byte(strings.ToUpper(lower)),
		" as a list of decimals": []byte(strings.Trim(fmt.Sprint(content), "[]")),
	}
	for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		for before := range 3 {
			encoded := encoding.EncodeToString(append(make([]byte, before), content...))
			// The first and last digits depend on the neighbours too.
			from := (before*8 + 5) / 6
			to := (before + len(content)) * 8 / 6
			all[fmt.Sprintf(" in %s at %d", name, before)] = []byte(encoded[from:to])
		}
	}
	return all
}

// find names what is in data, each once, by name.
func (n *needles) find(data []byte) []string {
	if len(data) < chunkSize {
		return nil
	}
	found := map[string]bool{}
	start := uint32(data[0])<<8 | uint32(data[1])
	for i := 0; i+chunkSize <= len(data); i++ {
		start = (start<<8 | uint32(data[i+2])) & (1<<24 - 1)
		if n.starts[start/64]&(1<<(start%64)) == 0 {
			continue
		}
		if what, ok := n.chunks[chunk(data[i:i+chunkSize])]; ok {
			found[what] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func TestNeedles_AreFoundInEveryFormWhereverTheyLie(t *testing.T) {
	t.Parallel()
	secret := make([]byte, 40)
	_, _ = rand.Read(secret)
	n := newNeedles()
	n.add("it", secret)
	for _, before := range []int{0, 1, 2, 3, 4, 5, 100} {
		around := bytes.Repeat([]byte{0xa5}, before)
		whole := slices.Concat(around, secret, around)
		for form, text := range map[string]string{
			"raw": string(whole), "hex": hex.EncodeToString(whole), "HEX": fmt.Sprintf("%X", whole), "decimals": fmt.Sprint(whole),
			"base64": base64.StdEncoding.EncodeToString(whole), "base64url": base64.URLEncoding.EncodeToString(whole),
			"a cut piece": string(slices.Concat(around, secret[3:34], around)),
			"a part":      hex.EncodeToString(slices.Concat(around, secret[5:30], around)),
		} {
			if len(n.find([]byte(text))) == 0 {
				t.Errorf("%s behind %d bytes is not found", form, before)
			}
		}
		if found := n.find(around); found != nil {
			t.Errorf("found %q where there is nothing", found)
		}
	}
	split := slices.Concat(secret[:20], make([]byte, 24), secret[20:])
	if len(n.find(split)) == 0 {
		t.Error("what lies across two pages is not found")
	}
	n.addWord("a word", "sealkeep_build_info")
	if found := n.find([]byte("# HELP sealkeep_build_info")); !slices.Equal(found, []string{"a word"}) {
		t.Errorf("found %q", found)
	}
}
