package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/sealkeep/sealkeep/test/bench/reference"
	"github.com/sealkeep/sealkeep/test/bench/report"
	"github.com/sealkeep/sealkeep/test/bench/stats"
)

// ratio is what a run is for: how two things compare that were measured side by side.
type ratio struct {
	Name        string        `json:"name"`
	Connections int           `json:"connections,omitempty"`
	Value       stats.Summary `json:"value"`
	Goal        float64       `json:"goal,omitempty"`
	AtMost      bool          `json:"goal_is_at_most,omitempty"`
}

// met tells whether the median reaches the goal.
func (r ratio) met() bool {
	if r.AtMost {
		return r.Value.Median <= r.Goal
	}
	return r.Value.Median >= r.Goal
}

func (r ratio) goal() string {
	if r.Goal == 0 || !r.Value.Known() {
		return ""
	}
	sign, verdict := "≥", "missed"
	if r.AtMost {
		sign = "≤"
	}
	if r.met() {
		verdict = "met"
	}
	return fmt.Sprintf("%s %s %s", sign, report.Count(r.Goal), verdict)
}

// ratios compares what was measured.
func (r *results) ratios(o *options) []ratio {
	var all []ratio
	compare := func(name string, connections int, goal float64, above, below []float64) {
		if !slices.Contains(o.connections, connections) {
			return
		}
		if v := stats.Ratio(above, below); v.Known() {
			all = append(all, ratio{Name: name, Connections: connections, Value: v, Goal: goal})
		}
	}
	rate := func(server string, n int) []float64 { return r.series(workRead, server, n, rateOf) }
	for _, n := range o.connections {
		goal := map[int]float64{8: 1, 32: 1.35, 128: 1.5}[n]
		compare("single reads: vault / d", n, goal, rate(vaultServer, n), rate(reference.Grouped, n))
	}
	for _, n := range o.connections {
		compare("single reads: v / d", n, 0, rate(reference.Validated, n), rate(reference.Grouped, n))
	}
	for _, n := range o.connections {
		compare("single reads: vault / v", n, 0, rate(vaultServer, n), rate(reference.Validated, n))
	}
	for _, n := range o.connections {
		goal := map[int]float64{32: 3, 128: 4}[n]
		compare("single reads: vault / e", n, goal, rate(vaultServer, n), rate(reference.Single, n))
	}
	for _, n := range o.connections {
		compare("p99 of single reads: vault / d", n, map[int]float64{32: 1}[n],
			r.series(workRead, vaultServer, n, p99Of), r.series(workRead, reference.Grouped, n, p99Of))
		if last := len(all) - 1; last >= 0 && all[last].Name == "p99 of single reads: vault / d" {
			all[last].AtMost = true
		}
	}
	for _, n := range o.connections {
		compare(fmt.Sprintf("secrets per second: batch of %d / single read", batchSize), n, 6,
			r.series(workBatch, vaultServer, n, secretsOf), rate(vaultServer, n))
	}
	for _, w := range []string{workCreate, workUpdate} {
		for _, n := range o.connections {
			compare(w+": vault / t", n, map[int]float64{32: 0.7}[n], r.series(w, vaultServer, n, rateOf), r.series(w, reference.Bare, n, rateOf))
		}
	}
	for _, w := range requestWorkloads {
		for _, n := range o.connections {
			compare(w+": the vault / another build of it", n, 0, r.series(w, vaultServer, n, rateOf), r.series(w, otherServer, n, rateOf))
		}
	}
	return slices.Concat(all, r.rotationRatios(), r.limits())
}

// limits holds the start and the memory of the vault against their goals.
func (r *results) limits() []ratio {
	var all []ratio
	if len(r.Starts) > 0 {
		all = append(all, ratio{Name: "start, ms", Value: stats.Summarise(r.Starts), Goal: 300, AtMost: true})
	}
	if n := len(r.Memory); n > 1 {
		first, last := r.Memory[0], r.Memory[n-1]
		all = append(all,
			ratio{Name: "resident memory at the end, MiB", Value: stats.Summarise([]float64{last.Resident}), Goal: 64, AtMost: true},
			ratio{Name: "resident memory: end / after a tenth", Value: stats.Summarise([]float64{last.Resident / first.Resident})})
	}
	if n := len(r.Queue); n > 0 {
		all = append(all, ratio{Name: "resident memory of a rotator at most, MiB", Value: stats.Summarise([]float64{r.Queue[n-1].Peak}), Goal: 64, AtMost: true})
	}
	return all
}

// scaleRatios compares the large vault with the small one.
func (r *results) scaleRatios(o *options) []ratio {
	var all []ratio
	add := func(name string, goal float64, workload string) {
		for _, n := range o.connections {
			v := stats.Ratio(r.series(workload, largeVault, n, rateOf), r.series(workHot, smallVault, n, rateOf))
			all = append(all, ratio{Name: name, Connections: n, Value: v, Goal: goal})
		}
	}
	add("single reads: large table / small table", 0.9, workHot)
	add("single reads: many secrets at random / few", 0, workWide)
	return all
}

func (r *results) ratioTable(out io.Writer) error {
	var rows [][]string
	for _, x := range r.Ratios {
		connections := ""
		if x.Connections > 0 {
			connections = fmt.Sprint(x.Connections)
		}
		rows = append(rows, []string{x.Name, connections, report.Spread(x.Value), x.goal()})
	}
	if len(rows) == 0 {
		return nil
	}
	return report.Table(out, "ratios (median of the rounds' ratios, least–most)", []string{"", "connections", "", "goal"}, rows)
}
