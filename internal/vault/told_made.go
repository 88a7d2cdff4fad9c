package vault

import (
	"fmt"

	"github.com/google/uuid"
)

// made counts what was made with a number of its own each: the revisions of a secret, or the epochs of the grants. Of numbers that are
// each made once there are no more than fit between the first and the last; one more, and some number was made twice. It is the same size
// whatever it has heard, and in whatever order; its sums, which wrap, tell which ones they were. A number that it has not heard hides one
// that was made twice, and never makes one.
type made struct {
	first, last   int64
	n             int64
	sum, ofSquare uint64
}

func (m *made) hear(number int64) {
	if m.n == 0 {
		m.first, m.last = number, number
	}
	m.first, m.last = min(m.first, number), max(m.last, number)
	m.n++
	u := uint64(number) //nolint:gosec // the sums wrap
	m.sum += u
	m.ofSquare += u * u
}

// join takes up what another one heard.
func (m *made) join(o made) {
	m.first, m.last = min(m.first, o.first), max(m.last, o.last)
	m.n, m.sum, m.ofSquare = m.n+o.n, m.sum+o.sum, m.ofSquare+o.ofSquare
}

// again tells how many numbers there are too many, and, if they follow each other, as they do when something was put back once, the
// first of them; else from is 0.
func (m *made) again() (from, n int64) {
	if n = m.n - (m.last - m.first + 1); m.n == 0 || n <= 0 {
		return 0, 0
	}
	// Counted from the first, numbers are small, and what is left of the sums when each has been there once is of those that were there again.
	base, count, span, times := uint64(m.first), uint64(m.n), uint64(m.last-m.first), uint64(n) //nolint:gosec // the sums wrap
	sum := m.sum - count*base - upTo(span)
	squares := m.ofSquare - 2*base*m.sum + count*base*base - squaresUpTo(span)
	if sum < upTo(times-1) || (sum-upTo(times-1))%times != 0 {
		return 0, n
	}
	start := (sum - upTo(times-1)) / times
	if start+times-1 > span || squares != times*start*start+2*start*upTo(times-1)+squaresUpTo(times-1) {
		return 0, n
	}
	return m.first + int64(start), n //nolint:gosec // at most last
}

// upTo is the sum of the numbers up to n, and squaresUpTo that of their squares. Both wrap; n is below 2^31.
func upTo(n uint64) uint64 { return n * (n + 1) / 2 }

func squaresUpTo(n uint64) uint64 {
	half, odd := upTo(n), 2*n+1 // n(n+1)(2n+1)/6: one of the two is divisible by three
	if half%3 == 0 {
		return half / 3 * odd
	}
	return half * (odd / 3)
}

// madeTwice words it; "" if nothing was made twice.
func (m *made) madeTwice(of, ofMany string) string {
	switch from, n := m.again(); {
	case n == 0:
		return ""
	case from == 0:
		return fmt.Sprintf("%d %s were made that had been made before", n, ofMany)
	case n == 1:
		return fmt.Sprintf("%s %d was made twice", of, from)
	default:
		return fmt.Sprintf("%s %d to %d were made twice", ofMany, from, from+n-1)
	}
}

// epochSpan is how far apart epochs are that don't follow each other. Giving up all grants sets the epoch to the time in microseconds,
// and what lies between was never made: were it counted as one span with what was before, its gap would hide all that was made twice.
const epochSpan = 1 << 20

// epochs are the spans of epochs: one, and one more each time that all grants were given up.
type epochs []made

func (e *epochs) hear(epoch int64) {
	var one made
	one.hear(epoch)
	rest := (*e)[:0]
	for _, span := range *e {
		if span.first-one.last < epochSpan && one.first-span.last < epochSpan {
			one.join(span)
			continue
		}
		rest = append(rest, span)
	}
	*e = append(rest, one)
}

// change is what one transaction of an offline command was: it has a stream of its own.
type change struct {
	stream uuid.UUID
	epoch  int64
}
