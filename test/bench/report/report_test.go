package report

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/test/bench/stats"
)

func TestColumnsAreAligned(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := Table(&b, "title", []string{"", "c=1"}, [][]string{{"a", "1,000 (999–1,001)"}, {"größer", None}}); err != nil {
		t.Fatal(err)
	}
	want := "\ntitle\n" +
		"                        c=1\n" +
		"  a       1,000 (999–1,001)\n" +
		"  größer                  –\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestNumbersForPeople(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0.00", 1.237: "1.24", 9.99: "9.99", 12.34: "12.3", 99.94: "99.9", 123.4: "123", 999.6: "1,000", 1234: "1,234", 123456: "123,456", 1234567: "1,234,567",
		math.NaN(): None, math.Inf(1): None,
	} {
		if got := Count(v); got != want {
			t.Errorf("%g: got %s, want %s", v, got, want)
		}
	}
	for want, values := range map[string][]float64{None: nil, "2.00": {2}, "2.00 (1.00–3.00)": {1, 2, 3}} {
		if got := Spread(stats.Summarise(values)); got != want {
			t.Errorf("%v: got %s, want %s", values, got, want)
		}
	}
}

func one(v float64) stats.Summary { return stats.Summarise([]float64{v * 0.9, v, v * 1.1}) }

var chart = Chart{
	Title: "Reads & more", XTitle: "connections", YTitle: "per <second>", X: []string{"1", "8", "32"},
	Series: []Series{
		{Name: "first <a>", Values: []stats.Summary{one(100), one(200), one(300)}},
		{Name: "with a gap", Values: []stats.Summary{one(110), {}, one(301)}, Emphasis: true},
		{Name: "close by", Values: []stats.Summary{one(105), one(150), one(299)}},
		{Name: "unknown", Values: []stats.Summary{{}, {}, {}}},
		{Name: "low", Values: []stats.Summary{one(1), one(1), one(1)}},
		{Name: "low too", Values: []stats.Summary{one(1), one(1), one(1)}},
	},
}

func TestTheChartIsWellFormedAndNeedsNothingElse(t *testing.T) {
	t.Parallel()
	svg := string(chart.SVG())
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok {
			for _, a := range e.Attr {
				if strings.HasSuffix(a.Name.Local, "href") || strings.Contains(a.Value, "url(") || e.Name.Local == "script" {
					t.Errorf("<%s %s=%q>", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
	for _, wanted := range []string{"Reads &amp; more", "first &lt;a&gt;", "per &lt;second&gt;", ">32<", ">400<"} {
		if !strings.Contains(svg, wanted) {
			t.Errorf("it lacks %q", wanted)
		}
	}
}

func TestAGapIsNotJoined(t *testing.T) {
	t.Parallel()
	paths := regexp.MustCompile(`<path d="([^"]*)"[^>]*stroke-width="4"`).FindStringSubmatch(string(chart.SVG()))
	if len(paths) != 2 || strings.Count(paths[1], "M") != 2 || strings.Contains(paths[1], "L") {
		t.Errorf("%q", paths)
	}
	if strings.Contains(string(chart.SVG()), "NaN") {
		t.Error("what isn't known was drawn")
	}
}

func TestLabelsDoNotOverlapAndStayInside(t *testing.T) {
	t.Parallel()
	var at []float64
	for _, m := range regexp.MustCompile(`<text x="662.0" y="([0-9.]+)"`).FindAllStringSubmatch(string(chart.SVG()), -1) {
		y, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, y)
	}
	if len(at) != 5 { // the unknown one has none
		t.Fatalf("%d labels", len(at))
	}
	for i, y := range at {
		if i > 0 && y-at[i-1] < labelHeight-0.1 {
			t.Errorf("labels at %.1f and %.1f", at[i-1], y)
		}
		if y > chartHeight-bottom+5 || y < top {
			t.Errorf("a label at %.1f", y)
		}
	}
}

func TestTheAxisEndsAtARoundNumberAboveAllValues(t *testing.T) {
	t.Parallel()
	for most, want := range map[float64]float64{0.9: 1, 100: 100, 101: 150, 390: 400, 45_000: 50_000, 81_000: 100_000} {
		c := Chart{X: []string{"1"}, Series: []Series{{Values: []stats.Summary{stats.Summarise([]float64{most})}}}}
		if got := c.limit(); got != want {
			t.Errorf("%g: got %g, want %g", most, got, want)
		}
	}
	if got := (Chart{}).limit(); got != 1 {
		t.Errorf("of nothing: %g", got)
	}
}
