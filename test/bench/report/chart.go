package report

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/test/bench/stats"
)

// Chart is a plot of several series over a few values of x, which stand at equal distances.
type Chart struct {
	Title, XTitle, YTitle string
	X                     []string
	Series                []Series
}

// Series is one line of a chart. A value that isn't known leaves a gap.
type Series struct {
	Name     string
	Values   []stats.Summary // one for each X
	Emphasis bool            // drawn with a thick line
}

// The plot's measures, in pixels.
const (
	chartWidth, chartHeight = 900.0, 520.0
	left, right             = 90.0, 250.0
	top, bottom             = 60.0, 70.0
	labelHeight             = 17.0
)

// Colours that people with any kind of colour vision tell apart (Okabe, Ito: Color Universal Design, 2008).
var palette = []string{"#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000", "#7f7f7f"}

// SVG draws the chart.
func (c Chart) SVG() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" font-family="sans-serif" font-size="13">`+"\n",
		chartWidth, chartHeight, chartWidth, chartHeight)
	b.WriteString(`<rect width="100%" height="100%" fill="#ffffff"/>` + "\n")
	text(&b, chartWidth/2-(right-left)/2, 30, "middle", 17, "#000000", c.Title)
	limit := c.limit()
	c.axes(&b, limit)
	for i, s := range c.Series {
		c.line(&b, s, palette[i%len(palette)], limit)
	}
	c.labels(&b, limit)
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// limit is the top of the y axis: the first round number above all values.
func (c Chart) limit() float64 {
	most := 0.0
	for _, s := range c.Series {
		for _, v := range s.Values {
			if v.Known() {
				most = max(most, v.Max)
			}
		}
	}
	if most == 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(most)))
	for _, step := range []float64{1, 1.5, 2, 3, 4, 5, 6, 8} {
		if most <= step*power {
			return step * power
		}
	}
	return 10 * power
}

func (c Chart) x(i int) float64 {
	width := chartWidth - left - right
	return left + width*(float64(i)+0.5)/float64(len(c.X))
}

func y(v, limit float64) float64 {
	return chartHeight - bottom - (chartHeight-top-bottom)*v/limit
}

func (c Chart) axes(b *strings.Builder, limit float64) {
	end := chartWidth - right
	const steps = 5
	for i := range steps + 1 {
		v := limit * float64(i) / steps
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#dddddd"/>`+"\n", left, y(v, limit), end, y(v, limit))
		label := "0"
		if v > 0 {
			label = Count(v)
		}
		text(b, left-8, y(v, limit)+4, "end", 13, "#333333", label)
	}
	for i, label := range c.X {
		text(b, c.x(i), chartHeight-bottom+22, "middle", 13, "#333333", label)
	}
	text(b, (left+end)/2, chartHeight-22, "middle", 13, "#333333", c.XTitle)
	fmt.Fprintf(b, `<text transform="translate(22 %.1f) rotate(-90)" text-anchor="middle" fill="#333333">%s</text>`+"\n",
		(top+chartHeight-bottom)/2, html.EscapeString(c.YTitle))
}

// line draws a series with its spread. Neighbours that are known are joined.
func (c Chart) line(b *strings.Builder, s Series, colour string, limit float64) {
	width := 1.8
	if s.Emphasis {
		width = 4
	}
	var path strings.Builder
	joined := false
	for i, v := range s.Values {
		if !v.Known() {
			joined = false
			continue
		}
		command := "M"
		if joined {
			command = "L"
		}
		joined = true
		fmt.Fprintf(&path, "%s%.1f %.1f", command, c.x(i), y(v.Median, limit))
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", c.x(i), y(v.Min, limit), c.x(i), y(v.Max, limit), colour)
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"><title>%s, %s: %s</title></circle>`+"\n",
			c.x(i), y(v.Median, limit), colour, html.EscapeString(s.Name), html.EscapeString(c.X[i]), Spread(v))
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="%g"/>`+"\n", path.String(), colour, width)
}

// labels names the series at their right ends, moved apart where they would overlap.
func (c Chart) labels(b *strings.Builder, limit float64) {
	type label struct {
		at   float64
		name string
		nr   int
	}
	var labels []label
	for nr, s := range c.Series {
		for _, v := range slices.Backward(s.Values) {
			if v.Known() {
				labels = append(labels, label{at: y(v.Median, limit), name: s.Name, nr: nr})
				break
			}
		}
	}
	slices.SortStableFunc(labels, func(a, b label) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		}
		return 0
	})
	for i := range labels { // downwards from the top
		if i > 0 {
			labels[i].at = max(labels[i].at, labels[i-1].at+labelHeight)
		}
	}
	lowest := chartHeight - bottom
	for i := len(labels) - 1; i >= 0; i-- { // and back up from the bottom
		labels[i].at = min(labels[i].at, lowest)
		lowest = labels[i].at - labelHeight
	}
	for _, l := range labels {
		text(b, chartWidth-right+12, l.at+4, "start", 13, palette[l.nr%len(palette)], l.name)
	}
}

func text(b *strings.Builder, x, y float64, anchor string, size int, colour, content string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="%s">%s</text>`+"\n",
		x, y, anchor, size, colour, html.EscapeString(content))
}
