package corpus

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
)

// The corpus is the same in every run: it is drawn with these numbers from the seeds in testdata.
const (
	seedA, seedB = 0x5ea1, 0xc0de
	corpusSize   = 10_000
)

// generate draws the corpus, no request twice. The first half are valid requests with one thing changed; the other half are
// malformed seeds, or valid ones, with several things changed, noise, or a body made up altogether.
func generate(valid, malformed []request) []request {
	r := rand.New(rand.NewPCG(seedA, seedB))
	all := make([]request, 0, corpusSize)
	drawn := map[string]bool{}
	add := func(q request) {
		if text := string(q.render(templates)); !drawn[text] {
			drawn[text] = true
			all = append(all, q)
		}
	}
	for len(all) < corpusSize/2 {
		if q, ok := mutated(r, pick(r, valid)); ok {
			add(q)
		}
	}
	for len(all) < corpusSize {
		add(wild(r, pick(r, slices.Concat(malformed, valid))))
	}
	return all
}

// templates leaves placeholders as they are.
func templates(what string) string { return "<" + what + ">" }

// mutated changes one thing about q. Kinds of changes come up equally often, however many there are of each.
func mutated(r *rand.Rand, q request) (request, bool) {
	q = q.clone()
	kinds := [][]mutation{jsonMutations, targetMutations, headerMutations, bodyMutations, jsonMutations}
	m := pick(r, pick(r, kinds))
	ok := m.apply(r, &q)
	q.name += ": " + m.name
	return q, ok
}

func wild(r *rand.Rand, q request) request {
	q = q.clone()
	q.name += ": wild"
	switch r.IntN(4) {
	case 0:
		for range 2 + r.IntN(4) {
			m := pick(r, mutations)
			m.apply(r, &q)
			q.name += ", " + m.name
		}
	case 1:
		seed := r.Uint64()
		q.name += ", noise"
		q.broken = true
		q.noise = func(b []byte) []byte { return noise(rand.New(rand.NewPCG(seed, 0)), b) }
	case 2:
		q.name += ", a body made up"
		q.body = []byte(document(r, 0))
		if !slices.Contains(q.headers, "Content-Type: application/json") {
			q.headers = append(q.headers, "Content-Type: application/json")
		}
	case 3:
		q.name += ", random bytes"
		q.body = make([]byte, r.IntN(2000))
		for i := range q.body {
			q.body[i] = byte(r.Uint32())
		}
	}
	return q
}

// noise changes a few bytes anywhere but in the request line, whose version and framing would then be net/http's affair.
func noise(r *rand.Rand, b []byte) []byte {
	start := bytes.IndexByte(b, '\n') + 1
	for range 1 + r.IntN(6) {
		if len(b) <= start {
			return b
		}
		at := start + r.IntN(len(b)-start)
		switch r.IntN(3) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b = slices.Delete(b, at, min(len(b), at+1+r.IntN(3)))
		case 2:
			b = slices.Insert(b, at, byte(r.Uint32()))
		}
	}
	return b
}

// document makes up JSON, or nearly so, of the names that the API knows.
func document(r *rand.Rand, depth int) string {
	names := []string{
		"name", "kind", "value", "value_base64", "username", "password", "description", "rotation_interval_secs",
		"grace_period_secs", "custom_metadata", "target", "names", "permissions", "action", "path", "role", "expires_in_secs", "is_admin", "x",
	}
	if depth > 4 || r.IntN(3) == 0 && depth > 0 {
		if r.IntN(2) == 0 {
			return pick(r, otherValues)
		}
		return `"` + pick(r, pieces) + `"`
	}
	var b bytes.Buffer
	array := r.IntN(5) == 0
	b.WriteByte("{["[btoi(array)])
	for i := range r.IntN(6) {
		if i > 0 {
			b.WriteByte(',')
		}
		if !array {
			fmt.Fprintf(&b, `"%s":`, pick(r, names))
		}
		b.WriteString(document(r, depth+1))
	}
	b.WriteByte("}]"[btoi(array)])
	return b.String()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
