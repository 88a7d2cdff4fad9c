package model

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// checkCoverage makes sure that the run had something to be wrong about.
func (r *run) checkCoverage(events []*event, records map[string][]vaulttest.Record, ops int) {
	r.t.Helper()
	counts := r.answers()
	// Of what passed with time, only what did so before the end counts.
	for _, e := range events {
		switch {
		case e.end > r.drove:
		case e.act == actPass:
			counts["a grace has passed"]++
		case e.act == actOff && e.by == byTime:
			counts["a token has expired"]++
		}
	}
	edits, cuts := 0, 0
	for what, n := range r.hits {
		counts[what] = n
		if strings.HasPrefix(what, "edit: ") {
			edits += n
		} else {
			cuts += n
		}
	}
	lines := make([]string, 0, len(counts))
	for what, n := range counts {
		lines = append(lines, fmt.Sprintf("%s ×%d", what, n))
	}
	slices.Sort(lines)
	r.t.Logf("what happened:\n%s", strings.Join(lines, "\n"))

	for _, short := range r.missing(counts, ops) {
		r.t.Errorf("%s: this run proves too little", short)
	}
	for what, least := range map[string]int{"a grace has passed": 5, "a token has expired": 1} {
		if want := max(1, least*ops/1200); counts[what] < want {
			r.t.Errorf("%s ×%d in place of at least %d: this run proves too little", what, counts[what], want)
		}
	}
	if want := ops / 80; edits < want {
		r.t.Errorf("%d edits by hand in place of %d: this run proves too little", edits, want)
	}
	if want := max(3, ops/1000); cuts < want {
		r.t.Errorf("%d cuts struck in place of %d: this run proves too little", cuts, want)
	}
	r.checkWithheld(records)
}

// answers counts what clients were told, by what they asked.
func (r *run) answers() map[string]int {
	counts := map[string]int{}
	for _, one := range r.calls {
		counts[fmt.Sprintf("%s: %d", one.op, one.status)]++
	}
	return counts
}

// leastAnswers is what a run of 1,200 must have seen: the least that is worth something, below what is usual.
var leastAnswers = map[string]int{
	opRead + ": 200": 200, opRead + ": 401": 3, opRead + ": 403": 2, opRead + ": 404": 3, opRead + ": 500": 2,
	opCondition + ": 200": 20, opCondition + ": 304": 10, opVersion + ": 200": 20, opVersion + ": 404": 5,
	opBatch + ": 200": 25, opVerify + ": 200": 70, opCreate + ": 201": 5, opUpdate + ": 200": 40,
	opRotate + ": 200": 5, opDelete + ": 204": 1, opIssue + ": 201": 5, opRevoke + ": 204": 1,
	opForbid + ": 200": 1, opPermit + ": 200": 1,
}

// missing says of which answers there are too few for a run of so many operations.
func (r *run) missing(counts map[string]int, ops int) []string {
	var short []string
	for what, least := range leastAnswers {
		if want := max(1, least*ops/1200); counts[what] < want {
			short = append(short, fmt.Sprintf("%s ×%d in place of at least %d", what, counts[what], want))
		}
	}
	return short
}

// checkWithheld requires that answers were withheld for what others changed, if the processes keep rows at all.
func (r *run) checkWithheld(records map[string][]vaulttest.Record) {
	r.t.Helper()
	withheld := map[string]float64{}
	keeps := false
	for _, v := range r.processes {
		for series, value := range r.scrape(v) {
			keeps = keeps || strings.HasPrefix(series, "sealkeep_vault_sealed_") || strings.HasPrefix(series, "sealkeep_vault_withheld_total")
			if reason, ok := strings.CutPrefix(series, `sealkeep_vault_withheld_total{reason="`); ok {
				withheld[strings.TrimSuffix(reason, `"}`)] += value
			}
		}
	}
	if !keeps {
		r.t.Log("the processes keep no rows, so nothing was withheld for what others changed")
		return
	}
	marked := 0
	for _, of := range records {
		for _, rec := range of {
			if rec.Outcome == outcomeWithheld {
				marked++
			}
		}
	}
	r.t.Logf("withheld: %v; %d records say so", withheld, marked)
	for _, reason := range []string{"changed", "grants"} {
		if withheld[reason] == 0 {
			r.t.Errorf("no answer was withheld because of %s: this run proves nothing of what is kept", reason)
		}
	}
	if marked == 0 {
		r.t.Error("answers were withheld, and no record says so")
	}
}

// scrape gives every series of a process's metrics.
func (r *run) scrape(v *vaulttest.Vault) map[string]float64 {
	r.t.Helper()
	answer, err := http.Get(v.MetricsURL)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	all := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		series, text, ok := strings.Cut(strings.TrimSpace(line), " ")
		if value, err := strconv.ParseFloat(text, 64); ok && err == nil && !strings.HasPrefix(line, "#") {
			all[series] = value
		}
	}
	if len(all) == 0 {
		r.t.Fatal("the process has no metrics")
	}
	return all
}
