// Package report shows results: aligned tables, a plot, and numbers that people can read.
//
// Invariants:
//   - What wasn't measured is shown as a dash, never as a zero.
//   - The plot needs nothing but itself: no scripts, no fonts, no other file.
package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sealkeep/sealkeep/test/bench/stats"
)

// Table writes rows in aligned columns below a title. The first column is aligned to the left, the others to the right.
func Table(w io.Writer, title string, header []string, rows [][]string) error {
	widths := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	b.WriteString("\n" + title + "\n")
	for _, row := range append([][]string{header}, rows...) {
		var line strings.Builder
		line.WriteString("  ")
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line.WriteString(cell + padding)
			} else {
				line.WriteString("  " + padding + cell)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// None stands for what wasn't measured.
const None = "–"

// Count writes a number with three digits that count at least, and thousands apart.
func Count(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return None
	case v < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// Spread writes a median with its extremes, if there was more than one round.
func Spread(s stats.Summary) string {
	switch {
	case !s.Known():
		return None
	case s.Rounds == 1:
		return Count(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", Count(s.Median), Count(s.Min), Count(s.Max))
}
