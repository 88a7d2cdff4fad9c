package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/sealkeep/sealkeep/test/bench/report"
	"github.com/sealkeep/sealkeep/test/bench/stats"
)

// results are everything that a run measured.
type results struct {
	At         time.Time      `json:"at"`
	System     string         `json:"system"`
	Go         string         `json:"go"`
	PostgreSQL string         `json:"postgresql"`
	Processors int            `json:"processors"`
	Rounds     int            `json:"rounds"`
	Seconds    float64        `json:"seconds_each"`
	Auth       string         `json:"read_auth"`
	Cells      []cell         `json:"measurements"`
	Starts     []float64      `json:"starts_ms,omitempty"`
	Memory     []memorySample `json:"memory,omitempty"`
	Rotations  []rotationCell `json:"rotations,omitempty"`
	Queue      []queueSample  `json:"rotator_memory,omitempty"`
	Scale      *scaleFacts    `json:"scale,omitempty"`
	Ratios     []ratio        `json:"ratios"`
}

func (r *results) describe(m *machine) {
	r.At, r.System, r.Go = time.Now().UTC().Truncate(time.Second), runtime.GOOS+"/"+runtime.GOARCH, runtime.Version()
	r.PostgreSQL, r.Processors = m.binaries.Version, processors()
}

// write shows the results and writes the files.
func (r *results) write(o *options, out io.Writer) error {
	r.Rounds, r.Seconds, r.Auth = o.rounds, o.time.Seconds(), o.auth
	var tables func(*options, io.Writer) error
	chart := r.chart(o)
	if r.Scale != nil {
		r.Ratios = r.scaleRatios(o)
		tables = r.scaleTables
	} else {
		r.Ratios = r.ratios(o)
		tables = r.tables
	}
	if err := errors.Join(tables(o, out), r.ratioTable(out)); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	name := "results"
	if r.Scale != nil {
		name = "scale"
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(o.out, name+".json"), append(text, '\n'), 0o644)
	if len(chart.Series) > 0 {
		err = errors.Join(err, os.WriteFile(filepath.Join(o.out, name+".svg"), chart.SVG(), 0o644))
	}
	fmt.Fprintf(out, "\nwritten to %s.json and .svg\n", filepath.Join(o.out, name))
	return err
}

// series gives one number of a server under one workload, round by round.
func (r *results) series(workload, server string, connections int, of func(cell) float64) []float64 {
	var values []float64
	for _, c := range r.Cells {
		if c.Workload == workload && c.Server == server && c.Connections == connections {
			values = append(values, of(c))
		}
	}
	return values
}

func (r *results) summary(workload, server string, connections int, of func(cell) float64) stats.Summary {
	return stats.Summarise(r.series(workload, server, connections, of))
}

func rateOf(c cell) float64    { return c.Rate }
func secretsOf(c cell) float64 { return c.Secrets }
func p50Of(c cell) float64     { return c.P50 }
func p99Of(c cell) float64     { return c.P99 }

// chart plots the reads.
func (r *results) chart(o *options) report.Chart {
	c := report.Chart{
		Title: "Single reads", XTitle: "connections", YTitle: "requests per second, median and spread",
	}
	for _, n := range o.connections {
		c.X = append(c.X, fmt.Sprint(n))
	}
	add := func(name, workload, server string, emphasis bool) {
		s := report.Series{Name: name, Emphasis: emphasis}
		known := false
		for _, n := range o.connections {
			v := r.summary(workload, server, n, rateOf)
			known = known || v.Known()
			s.Values = append(s.Values, v)
		}
		if known {
			c.Series = append(c.Series, s)
		}
	}
	if r.Scale != nil {
		add("few secrets, small table", workHot, smallVault, false)
		add("the same, large table", workHot, largeVault, true)
		add("many secrets, large table", workWide, largeVault, false)
		return c
	}
	for _, s := range o.servers {
		add(title(s), workRead, s, s == vaultServer)
	}
	return c
}
