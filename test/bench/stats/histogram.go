// Package stats holds what a benchmark reckons with: latencies in buckets, medians with their spread, ratios.
//
// Invariants:
//   - A quantile is never below the true one, and above it by less than one part in 128. The maximum is exact.
//   - Recording takes no memory, so that what measures doesn't disturb what is measured.
//   - A median of nothing is not a number, and so is every ratio with it: nothing that wasn't measured looks like a result.
package stats

import (
	"math"
	"math/bits"
)

// The buckets are those of a float with 7 bits of mantissa: below 128 one for each value, above that 128 for each power
// of two (the layout that HdrHistogram made known).
const (
	mantissaBits = 7
	perPower     = 1 << mantissaBits
	bucketCount  = (64 - mantissaBits + 1) * perPower
)

// Histogram counts values, such as latencies in nanoseconds. The zero value is empty. It belongs to one goroutine.
type Histogram struct {
	buckets [bucketCount]uint64
	count   uint64
	max     uint64
}

// Record counts one value.
func (h *Histogram) Record(v uint64) {
	h.buckets[bucketOf(v)]++
	h.count++
	h.max = max(h.max, v)
}

// Count tells how many values were recorded.
func (h *Histogram) Count() uint64 { return h.count }

// Max is the largest value; 0 of an empty histogram.
func (h *Histogram) Max() uint64 { return h.max }

// Quantile gives the value that the share q (0 to 1) of all values doesn't exceed; 0 of an empty histogram.
func (h *Histogram) Quantile(q float64) uint64 {
	rank := max(uint64(math.Ceil(q*float64(h.count))), 1)
	var below uint64
	for i, n := range h.buckets {
		below += n
		if below >= rank {
			return min(largestIn(i), h.max)
		}
	}
	return h.max
}

// bucketOf numbers the buckets by size.
func bucketOf(v uint64) int {
	if v < perPower {
		return int(v)
	}
	power := bits.Len64(v) - mantissaBits - 1
	return (power+1)*perPower + int(v>>power) - perPower
}

// largestIn is the largest value that falls into a bucket.
func largestIn(bucket int) uint64 {
	power := max(bucket/perPower-1, 0)
	if bucket < perPower {
		return uint64(bucket)
	}
	mantissa := uint64(bucket%perPower + perPower)
	return (mantissa+1)<<power - 1
}
