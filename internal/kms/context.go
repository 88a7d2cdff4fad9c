package kms

import (
	"encoding/hex"
	"strconv"

	"github.com/sealkeep/sealkeep/internal/canon"
)

// maxPairs bounds the pairs of an encryption context; none of ours has more than four.
const maxPairs = 6

// Context is an encryption context: pairs of text that say what a data key is for, and that unwrapping must repeat. It is
// a plain value of a fixed size, so that making one and passing it on costs no memory: it is made for every read. The
// zero value has no pairs.
type Context struct {
	n     int
	pairs [maxPairs]Pair // in the byte order of their names
}

// Pair is one name and its value. Values that aren't text are kept as they are until somebody needs the text.
type Pair struct {
	name string
	kind kind
	text string   // of a text
	id   [16]byte // of a UUID
	num  int64    // of a number
}

type kind uint8

const (
	kindText kind = iota
	kindUUID
	kindInt
)

// Text is a pair whose value is text.
func Text(name, value string) Pair { return Pair{name: name, kind: kindText, text: value} }

// UUID is a pair whose value is a UUID: in lower case with hyphens, when it is text.
func UUID(name string, value [16]byte) Pair { return Pair{name: name, kind: kindUUID, id: value} }

// Int is a pair whose value is a number: in decimal, when it is text.
func Int(name string, value int64) Pair { return Pair{name: name, kind: kindInt, num: value} }

// NewContext makes a context of pairs in any order. More than six pairs, or two of one name, are a programming error and
// panic.
func NewContext(pairs ...Pair) Context {
	if len(pairs) > maxPairs {
		panic("kms: an encryption context of too many pairs")
	}
	c := Context{n: len(pairs)}
	copy(c.pairs[:], pairs)
	sorted := c.pairs[:c.n]
	for i := range sorted {
		for at := i; at > 0 && sorted[at-1].name >= sorted[at].name; at-- {
			if sorted[at-1].name == sorted[at].name {
				panic("kms: an encryption context that names something twice")
			}
			sorted[at-1], sorted[at] = sorted[at], sorted[at-1]
		}
	}
	return c
}

// Map returns the pairs as text, as a KMS takes them.
func (c *Context) Map() map[string]string {
	m := make(map[string]string, c.n)
	for i := range c.n {
		m[c.pairs[i].name] = string(c.pairs[i].appendValue(nil))
	}
	return m
}

// appendText appends the pairs as canonical fields of text, in the byte order of their names.
func (c *Context) appendText(dst []byte) []byte {
	var room [64]byte
	for i := range c.n {
		p := &c.pairs[i]
		dst = canon.Text(dst, p.name)
		if p.kind == kindText {
			dst = canon.Text(dst, p.text)
		} else {
			dst = canon.Text(dst, string(p.appendValue(room[:0])))
		}
	}
	return dst
}

// appendTyped appends the pairs as canonical fields of their own types, which saves making text of them. What differs as
// text differs here too.
func (c *Context) appendTyped(dst []byte) []byte {
	dst = canon.Int(dst, int64(c.n))
	for i := range c.n {
		p := &c.pairs[i]
		dst = canon.Text(dst, p.name)
		switch p.kind {
		case kindUUID:
			dst = canon.UUID(dst, p.id)
		case kindInt:
			dst = canon.Int(dst, p.num)
		default:
			dst = canon.Text(dst, p.text)
		}
	}
	return dst
}

// appendValue appends the value's text.
func (p *Pair) appendValue(dst []byte) []byte {
	switch p.kind {
	case kindUUID:
		for i, part := range [...][]byte{p.id[:4], p.id[4:6], p.id[6:8], p.id[8:10], p.id[10:]} {
			if i > 0 {
				dst = append(dst, '-')
			}
			dst = hex.AppendEncode(dst, part)
		}
		return dst
	case kindInt:
		return strconv.AppendInt(dst, p.num, 10)
	default:
		return append(dst, p.text...)
	}
}
