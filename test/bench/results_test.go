package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// measured makes results of two rounds: rates of the servers at 32 connections, and p99 of the vault and of d.
func measured(t *testing.T) (*results, *options) {
	t.Helper()
	o, err := parseOptions([]string{"-conns", "8,32", "-rounds", "2", "-out", t.TempDir()}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r := &results{Starts: []float64{100, 120, 90}, Memory: []memorySample{{100, 40, 41}, {1000, 42, 43}}, Queue: []queueSample{{10, 90, 50, 51}, {100, 1, 60, 65}}}
	for round, speed := range []float64{1, 2} {
		for server, rate := range map[string]float64{"d": 1000, "e": 500, "v": 1800, vaultServer: 1500} {
			r.Cells = append(r.Cells, cell{Workload: workRead, Server: server, Connections: 32, Round: round + 1, Rate: rate * speed, Secrets: rate * speed, P99: 1 / speed})
		}
		r.Rotations = append(r.Rotations,
			rotationCell{Server: "t", Rotators: 1, Rate: 1000 * speed}, rotationCell{Server: vaultServer, Rotators: 1, Rate: 600 * speed},
			rotationCell{Server: "t", Rotators: 3, Rate: 900 * speed}, rotationCell{Server: vaultServer, Rotators: 3, Rate: 540 * speed})
		r.Cells = append(r.Cells,
			cell{Workload: workBatch, Server: vaultServer, Connections: 32, Round: round + 1, Rate: 100 * speed, Secrets: 6400 * speed},
			cell{Workload: workCreate, Server: vaultServer, Connections: 32, Round: round + 1, Rate: 69 * speed},
			cell{Workload: workCreate, Server: "t", Connections: 32, Round: round + 1, Rate: 100 * speed})
	}
	return r, o
}

func TestRatiosAreHeldAgainstTheirGoals(t *testing.T) {
	t.Parallel()
	r, o := measured(t)
	want := map[string]string{
		"single reads: vault / d":                       "1.50 ≥ 1.35 met",
		"single reads: v / d":                           "1.80 ",
		"single reads: vault / v":                       "0.83 ",
		"single reads: vault / e":                       "3.00 ≥ 3.00 met",
		"p99 of single reads: vault / d":                "1.00 ≤ 1.00 met",
		"secrets per second: batch of 64 / single read": "4.27 ≥ 6.00 missed",
		"create: vault / t":                             "0.69 ≥ 0.70 missed",
		"rotations: one rotator / t":                    "0.60 ≥ 0.60 met",
		"rotations: three rotators / three of t":        "0.60 ≥ 0.60 met",
		"rotations: three rotators / one":               "0.90 ≥ 1.00 missed",
		"rotations: three of t / one of t":              "0.90 ",
		"resident memory of a rotator at most, MiB":     "65.00 ≤ 64.0 missed",
		"start, ms":                            "100.00 ≤ 300 met",
		"resident memory at the end, MiB":      "42.00 ≤ 64.0 met",
		"resident memory: end / after a tenth": "1.05 ",
	}
	for _, x := range r.ratios(o) {
		got := strings.TrimSuffix(strings.Join([]string{formatted(x.Value.Median), x.goal()}, " "), "")
		if got != want[x.Name] {
			t.Errorf("%s: got %q, want %q", x.Name, got, want[x.Name])
		}
		if x.Connections == 8 {
			t.Errorf("%s at 8 connections, where nothing was measured", x.Name)
		}
		delete(want, x.Name)
	}
	for name := range want {
		t.Errorf("there is no ratio %q", name)
	}
}

func formatted(v float64) string {
	text, _ := json.Marshal(float64(int(v*100+0.5)) / 100)
	whole, digits, _ := strings.Cut(string(text), ".")
	return whole + "." + (digits + "00")[:2]
}

func TestTablesShowADashWhereNothingWasMeasured(t *testing.T) {
	t.Parallel()
	r, o := measured(t)
	var b strings.Builder
	if err := r.write(o, &b); err != nil {
		t.Fatal(err)
	}
	for _, wanted := range []string{"c=8", "c=32", "the vault", "–  2,250 (1,500–3,000)", "ratios", "100 (90.0–120)"} {
		if !strings.Contains(b.String(), wanted) {
			t.Errorf("it lacks %q:\n%s", wanted, b.String())
		}
	}
	if strings.Contains(b.String(), "NaN") {
		t.Error(b.String())
	}
	for _, name := range []string{"results.json", "results.svg"} {
		if info, err := os.Stat(filepath.Join(o.out, name)); err != nil || info.Size() == 0 {
			t.Error(name, err)
		}
	}
}
