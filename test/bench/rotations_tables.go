package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/sealkeep/sealkeep/test/bench/reference"
	"github.com/sealkeep/sealkeep/test/bench/report"
	"github.com/sealkeep/sealkeep/test/bench/stats"
)

// rotationSeries gives one number of so many rotators, round by round.
func (r *results) rotationSeries(server string, rotators int, of func(rotationCell) float64) []float64 {
	var values []float64
	for _, c := range r.Rotations {
		if c.Server == server && c.Rotators == rotators {
			values = append(values, of(c))
		}
	}
	return values
}

func rotationRate(c rotationCell) float64 { return c.Rate }

// rotationTables shows rates, processor time and memory of rotators.
func (r *results) rotationTables(out io.Writer) error {
	header := []string{""}
	for _, n := range rotatorCounts {
		header = append(header, fmt.Sprintf("rotators=%d", n))
	}
	var rates, times [][]string
	for _, s := range []string{reference.Bare, vaultServer, otherServer} {
		if !slices.ContainsFunc(r.Rotations, func(c rotationCell) bool { return c.Server == s }) {
			continue
		}
		rate, processor := []string{title(s)}, []string{title(s)}
		for _, n := range rotatorCounts {
			rate = append(rate, report.Spread(stats.Summarise(r.rotationSeries(s, n, rotationRate))))
			median := func(of func(rotationCell) *float64) float64 {
				return stats.Summarise(r.rotationSeries(s, n, func(c rotationCell) float64 {
					if v := of(c); v != nil {
						return *v
					}
					return math.NaN()
				})).Median
			}
			rotator := median(func(c rotationCell) *float64 { return c.RotatorCPU })
			database := median(func(c rotationCell) *float64 { return c.DatabaseCPU })
			processor = append(processor, fmt.Sprintf("%s + %s = %s", report.Count(rotator), report.Count(database), report.Count(rotator+database)))
		}
		rates, times = append(rates, rate), append(times, processor)
	}
	var errs []error
	if len(rates) > 0 {
		errs = append(errs, report.Table(out, fmt.Sprintf("rotations per second, %d at once in each rotator (median of %d rounds, least–most)", rotatorWorkers, r.Rounds), header, rates))
	}
	if slices.ContainsFunc(r.Rotations, func(c rotationCell) bool { return c.RotatorCPU != nil }) {
		errs = append(errs, report.Table(out, "processor time per rotation in microseconds: rotators + PostgreSQL (medians)", header, times))
	}
	var memory [][]string
	for _, s := range r.Queue {
		memory = append(memory, []string{
			fmt.Sprintf("after %s rotations, %s jobs queued", report.Count(float64(s.Rotations)), report.Count(float64(s.Queued))),
			fmt.Sprintf("%.1f (at most %.1f)", s.Resident, s.Peak),
		})
	}
	if len(memory) > 0 {
		errs = append(errs, report.Table(out, "a rotator's resident memory, MiB", []string{"", ""}, memory))
	}
	return errors.Join(errs...)
}

// rotationRatios compares rotators with the reference, and several with one.
func (r *results) rotationRatios() []ratio {
	var all []ratio
	compare := func(name string, goal float64, above, below []float64) {
		if v := stats.Ratio(above, below); v.Known() {
			all = append(all, ratio{Name: name, Value: v, Goal: goal})
		}
	}
	rates := func(server string, n int) []float64 { return r.rotationSeries(server, n, rotationRate) }
	compare("rotations: one rotator / t", 0.6, rates(vaultServer, 1), rates(reference.Bare, 1))
	compare("rotations: three rotators / three of t", 0.6, rates(vaultServer, 3), rates(reference.Bare, 3))
	compare("rotations: three rotators / one", 1, rates(vaultServer, 3), rates(vaultServer, 1))
	compare("rotations: three of t / one of t", 0, rates(reference.Bare, 3), rates(reference.Bare, 1))
	for _, n := range rotatorCounts {
		compare(fmt.Sprintf("rotations, %d rotators: the vault / another build of it", n), 0, rates(vaultServer, n), rates(otherServer, n))
	}
	return all
}
