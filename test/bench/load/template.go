// Package load is the client of the benchmarks: it keeps a fixed number of connections busy with one request each, checks
// the answers and times them.
//
// Invariants:
//   - An answer with another status than the expected one ends the load with an error, as does a body without what it must
//     hold; the status is checked in every answer, the body in a sample.
//   - Every answer that the client takes counts, in Result.Answered, so that the caller can hold evidence against it. The
//     rate and the latencies are those of the answers within the measured time alone.
//   - It takes little of the processors that it shares with what it measures: on Linux one thread, no memory per request.
package load

import (
	"bytes"
	"strconv"
	"strings"
)

// Template is text with numbers in it that differ from request to request.
type Template struct {
	Text  []byte
	Slots []Slot
}

// Slot is where a number goes, in decimal with leading zeros, made from the number of the request: n*Times + Plus, and the
// remainder of that if Modulo isn't 0. With Scatter the numbers come in an order that looks random and is the same each
// time.
type Slot struct {
	At, Width           int
	Times, Plus, Modulo uint64
	Scatter             bool
}

// Text makes a template without slots, or the beginning of one.
func Text(s string) Template { return Template{Text: []byte(s)} }

// Add appends text.
func (t Template) Add(s string) Template {
	t.Text = append(bytes.Clone(t.Text), s...)
	return t
}

// Number appends a slot of that width for the rest of the slot's settings.
func (t Template) Number(width int, s Slot) Template {
	s.At, s.Width = len(t.Text), width
	t.Text = append(bytes.Clone(t.Text), strings.Repeat("0", width)...)
	t.Slots = append(append([]Slot(nil), t.Slots...), s)
	return t
}

// Join appends another template.
func (t Template) Join(other Template) Template {
	shift := len(t.Text)
	t = t.Add(string(other.Text))
	t.Slots = append([]Slot(nil), t.Slots...)
	for _, s := range other.Slots {
		s.At += shift
		t.Slots = append(t.Slots, s)
	}
	return t
}

// Clone gives a copy that can be filled independently.
func (t Template) Clone() Template {
	t.Text = bytes.Clone(t.Text)
	return t
}

// Fill writes the numbers of request n into the template's own text and returns that.
func (t Template) Fill(n uint64) []byte {
	for i := range t.Slots {
		s := &t.Slots[i]
		put(t.Text[s.At:s.At+s.Width], s.number(n))
	}
	return t.Text
}

func (s *Slot) number(n uint64) uint64 {
	n = n*s.Times + s.Plus
	if s.Scatter {
		n = scatter(n)
	}
	if s.Modulo != 0 {
		n %= s.Modulo
	}
	return n
}

// put writes n in decimal over all of dst; digits that don't fit are dropped from the front.
func put(dst []byte, n uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
}

// scatter is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): it
// maps the numbers one to one, and looks random.
func scatter(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

// Request makes a template of an HTTP/1.1 request whose body has a fixed length. headers are whole lines with their ends.
func Request(method string, path Template, host, headers string, body Template) Template {
	t := Text(method + " ").Join(path).Add(" HTTP/1.1\r\nHost: " + host + "\r\n" + headers)
	if len(body.Text) > 0 {
		t = t.Add("Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body.Text)) + "\r\n")
	}
	return t.Add("\r\n").Join(body)
}
