package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/sealkeep/sealkeep/test/bench/report"
	"github.com/sealkeep/sealkeep/test/bench/stats"
)

// headings are how tables call the workloads.
var headings = map[string]string{
	workRead:   "single reads",
	workBatch:  fmt.Sprintf("batches of %d reads", batchSize),
	workVerify: "verifications",
	workCreate: "creations",
	workUpdate: "updates with a new value",
}

// tables shows rates, latencies, processor time, start and memory.
func (r *results) tables(o *options, out io.Writer) error {
	var errs []error
	for _, w := range o.requests() {
		servers := slices.DeleteFunc(slices.Clone(o.servers), func(s string) bool { return !r.measured(w, s) })
		if len(servers) == 0 {
			continue
		}
		errs = append(errs,
			r.table(o, out, headings[w]+", requests per second", w, servers, rateOf),
			r.latencies(o, out, w, servers),
			r.processorTable(o, out, w, servers))
		if w == workBatch {
			errs = append(errs, r.table(o, out, headings[w]+", secrets per second", w, servers, secretsOf))
		}
	}
	errs = append(errs, r.lifetime(out), r.rotationTables(out), r.disturbance(out))
	return errors.Join(errs...)
}

func (r *results) measured(workload, server string) bool {
	return slices.ContainsFunc(r.Cells, func(c cell) bool { return c.Workload == workload && c.Server == server })
}

func connectionsHeader(o *options) []string {
	header := []string{""}
	for _, n := range o.connections {
		header = append(header, fmt.Sprintf("c=%d", n))
	}
	return header
}

// table shows one number of each server by connections.
func (r *results) table(o *options, out io.Writer, heading, workload string, servers []string, of func(cell) float64) error {
	var rows [][]string
	for _, s := range servers {
		row := []string{title(s)}
		for _, n := range o.connections {
			row = append(row, report.Spread(r.summary(workload, s, n, of)))
		}
		rows = append(rows, row)
	}
	return report.Table(out, fmt.Sprintf("%s (median of %d rounds, least–most)", heading, o.rounds), connectionsHeader(o), rows)
}

func (r *results) latencies(o *options, out io.Writer, workload string, servers []string) error {
	var rows [][]string
	for _, s := range servers {
		row := []string{title(s)}
		for _, n := range o.connections {
			row = append(row, fmt.Sprintf("%s / %s", report.Count(r.summary(workload, s, n, p50Of).Median), report.Count(r.summary(workload, s, n, p99Of).Median)))
		}
		rows = append(rows, row)
	}
	return report.Table(out, headings[workload]+", latency p50 / p99 in milliseconds (medians)", connectionsHeader(o), rows)
}

// processorTable shows where processor time goes.
func (r *results) processorTable(o *options, out io.Writer, workload string, servers []string) error {
	if !slices.ContainsFunc(r.Cells, func(c cell) bool { return c.ServerCPU != nil }) {
		return nil
	}
	median := func(s string, n int, of func(cell) *float64) float64 {
		return r.summary(workload, s, n, func(c cell) float64 {
			if v := of(c); v != nil {
				return *v
			}
			return math.NaN()
		}).Median
	}
	var rows [][]string
	for _, s := range servers {
		row := []string{title(s)}
		for _, n := range o.connections {
			server := median(s, n, func(c cell) *float64 { return c.ServerCPU })
			database := median(s, n, func(c cell) *float64 { return c.DatabaseCPU })
			client := median(s, n, func(c cell) *float64 { return c.ClientCPU })
			row = append(row, fmt.Sprintf("%s + %s + %s = %s", report.Count(server), report.Count(database), report.Count(client),
				report.Count(server+database+client)))
		}
		rows = append(rows, row)
	}
	return report.Table(out, headings[workload]+", processor time per request in microseconds: server + PostgreSQL + client (medians)",
		connectionsHeader(o), rows)
}

// lifetime shows the vault's start and memory.
func (r *results) lifetime(out io.Writer) error {
	var rows [][]string
	if len(r.Starts) > 0 {
		rows = append(rows, []string{"from exec to the first 200 of /readyz, ms", report.Spread(stats.Summarise(r.Starts))})
	}
	for _, m := range r.Memory {
		rows = append(rows, []string{
			fmt.Sprintf("resident memory after %s reads, MiB", report.Count(float64(m.Reads))),
			fmt.Sprintf("%.1f (at most %.1f)", m.Resident, m.Peak),
		})
	}
	if len(rows) == 0 {
		return nil
	}
	return report.Table(out, fmt.Sprintf("the vault's process (memory at %d connections)", memoryConnections), []string{"", ""}, rows)
}

// disturbance tells how much of the machine others took.
func (r *results) disturbance(out io.Writer) error {
	var shares []float64
	for _, c := range r.Cells {
		if c.Others != nil {
			shares = append(shares, 100**c.Others)
		}
	}
	for _, c := range r.Rotations {
		if c.Others != nil {
			shares = append(shares, 100**c.Others)
		}
	}
	s := stats.Summarise(shares)
	if !s.Known() {
		return nil
	}
	_, err := fmt.Fprintf(out, "\nprocessor time that went to anything else: %.0f%% in the median measurement, %.0f%% in the worst\n", s.Median, s.Max)
	return err
}

// scaleTables shows what the size of the table makes of the rates.
func (r *results) scaleTables(o *options, out io.Writer) error {
	rows := [][]string{
		append([]string{fmt.Sprintf("%s secrets, nothing else in the table", report.Count(float64(o.secrets)))}, r.rates(o, workHot, smallVault)...),
		append([]string{fmt.Sprintf("the same among %s secrets, %s versions", report.Count(float64(r.Scale.Secrets)), report.Count(float64(r.Scale.Versions)))}, r.rates(o, workHot, largeVault)...),
		append([]string{fmt.Sprintf("%s secrets of that table, at random", report.Count(float64(r.Scale.Wide)))}, r.rates(o, workWide, largeVault)...),
	}
	err := report.Table(out, fmt.Sprintf("single reads, requests per second (median of %d rounds, least–most)", o.rounds), connectionsHeader(o), rows)
	_, printed := fmt.Fprintf(out, "\nwhile it was measured, PostgreSQL scanned a table of secrets %d times and looked into their indexes %s times\n",
		r.Scale.TableScans, report.Count(float64(r.Scale.Lookups)))
	return errors.Join(err, printed, r.disturbance(out))
}

func (r *results) rates(o *options, workload, server string) []string {
	var row []string
	for _, n := range o.connections {
		row = append(row, report.Spread(r.summary(workload, server, n, rateOf)))
	}
	return row
}
