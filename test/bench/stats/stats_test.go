package stats

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestAQuantileIsAtMostOnePartIn128TooLarge(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, most := range []uint64{1, 127, 128, 1000, 1e6, 1e9, 1e15} {
		var h Histogram
		var values []uint64
		for range 5000 {
			v := random.Uint64N(most + 1)
			values = append(values, v)
			h.Record(v)
		}
		slices.Sort(values)
		for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
			rank := max(int(math.Ceil(q*float64(len(values)))), 1)
			exact, got := values[rank-1], h.Quantile(q)
			if got < exact || float64(got-exact) > float64(exact)/128 {
				t.Errorf("values up to %d, quantile %g: got %d, want %d", most, q, got, exact)
			}
		}
		if got := h.Max(); got != values[len(values)-1] {
			t.Errorf("the maximum is %d, want %d", got, values[len(values)-1])
		}
		if h.Quantile(1) != h.Max() {
			t.Errorf("the last quantile is %d, the maximum %d", h.Quantile(1), h.Max())
		}
	}
}

func TestEveryValueFallsIntoABucketThatHoldsIt(t *testing.T) {
	t.Parallel()
	for power := range 64 {
		for _, v := range []uint64{1 << power, 1<<power - 1, 1<<power + 1, 3 << power / 2, math.MaxUint64 >> power} {
			b := bucketOf(v)
			if b < 0 || b >= bucketCount {
				t.Fatalf("%d falls into bucket %d of %d", v, b, bucketCount)
			}
			if largestIn(b) < v || (b > 0 && largestIn(b-1) >= v) {
				t.Errorf("%d falls into bucket %d, which is from %d to %d", v, b, largestIn(b-1)+1, largestIn(b))
			}
		}
	}
}

func TestAnEmptyHistogramHasZeros(t *testing.T) {
	t.Parallel()
	var h Histogram
	if h.Count() != 0 || h.Max() != 0 || h.Quantile(0.99) != 0 {
		t.Errorf("got %d, %d, %d", h.Count(), h.Max(), h.Quantile(0.99))
	}
}

func TestRecordingTakesNoMemory(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(100, func() { h.Record(12345) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

func TestMedians(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   Summary
	}{
		{[]float64{5}, Summary{5, 5, 5, 1}},
		{[]float64{9, 1, 5}, Summary{5, 1, 9, 3}},
		{[]float64{4, 1, 2, 9}, Summary{3, 1, 9, 4}},
	} {
		if got := Summarise(c.values); got != c.want {
			t.Errorf("%v: got %v, want %v", c.values, got, c.want)
		}
	}
	if s := Summarise(nil); s.Known() || !math.IsNaN(s.Median) {
		t.Errorf("of nothing: %v", s)
	}
}

func TestARatioIsOfRoundsSideBySide(t *testing.T) {
	t.Parallel()
	// The machine was half as fast in the second round; the ratio was always 2.
	if got, want := Ratio([]float64{20, 10, 22}, []float64{10, 5, 11}), (Summary{2, 2, 2, 3}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Ratio([]float64{20, 10}, []float64{10}); got.Rounds != 1 {
		t.Errorf("a round that only one side has: %v", got)
	}
	if got := Ratio([]float64{20}, []float64{0}); got.Known() {
		t.Errorf("over nothing: %v", got)
	}
}

func TestWhatIsNotKnownIsNullInJSON(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal([]Summary{Summarise(nil), Summarise([]float64{1, 2})})
	if err != nil || string(text) != `[null,{"median":1.5,"min":1,"max":2,"rounds":2}]` {
		t.Errorf("%s, %v", text, err)
	}
}
