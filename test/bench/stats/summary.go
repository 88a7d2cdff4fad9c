package stats

import (
	"encoding/json"
	"math"
	"slices"
)

// Summary is what several rounds of one measurement came to.
type Summary struct {
	Median, Min, Max float64
	Rounds           int
}

// Summarise takes the values of all rounds. Without any, its numbers are not numbers.
func Summarise(values []float64) Summary {
	if len(values) == 0 {
		nan := math.NaN()
		return Summary{Median: nan, Min: nan, Max: nan}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return Summary{
		Median: (sorted[(n-1)/2] + sorted[n/2]) / 2,
		Min:    sorted[0],
		Max:    sorted[n-1],
		Rounds: n,
	}
}

// Known tells whether anything was measured.
func (s Summary) Known() bool { return s.Rounds > 0 }

// MarshalJSON gives null for what wasn't measured, as JSON has no word for it.
func (s Summary) MarshalJSON() ([]byte, error) {
	if !s.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(struct {
		Median float64 `json:"median"`
		Min    float64 `json:"min"`
		Max    float64 `json:"max"`
		Rounds int     `json:"rounds"`
	}{s.Median, s.Min, s.Max, s.Rounds})
}

// Ratio compares two measurements whose rounds were interleaved: the median of the rounds' own ratios, and their spread.
// What disturbs a round disturbs both of its sides, so that this is steadier than the ratio of two medians. Rounds that
// only one side has don't count.
func Ratio(numerator, denominator []float64) Summary {
	var ratios []float64
	for i := range min(len(numerator), len(denominator)) {
		if denominator[i] > 0 {
			ratios = append(ratios, numerator[i]/denominator[i])
		}
	}
	return Summarise(ratios)
}
