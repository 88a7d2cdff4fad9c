package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sealkeep/sealkeep/test/bench/dataset"
	"github.com/sealkeep/sealkeep/test/bench/load"
	"github.com/sealkeep/sealkeep/test/bench/procs"
	"github.com/sealkeep/sealkeep/test/bench/reference"
)

// target is a server that is measured.
type target struct {
	name    string
	process *procs.Process
	address string
	headers func(changes bool) string // nil is none
	expect  func([]load.Template) []load.Template
	next    map[string]uint64 // by workload: the number of the next request
	account func(workload string, w dataset.Workload, answered uint64)
}

// titles say what the servers do.
var titles = map[string]string{
	reference.Constant:  "constant JSON",
	reference.Select:    "one prepared SELECT",
	reference.Open:      "b + AEAD open",
	reference.Grouped:   "c + audit, group commit",
	reference.Single:    "c + audit INSERT each",
	reference.Validated: "the design bare",
	reference.Bare:      "bare transaction",
	vaultServer:         "the vault",
	otherServer:         "another build of it",
}

// title is what a server is called in tables.
func title(server string) string {
	if server == vaultServer || server == otherServer {
		return titles[server]
	}
	return server + "  " + titles[server]
}

// servesOn tells whether a server takes part in a workload.
func servesOn(server, workload string) bool {
	switch {
	case server == vaultServer, server == otherServer:
		return true
	case server == reference.Bare:
		return changes(workload)
	}
	return workload == workRead
}

func changes(workload string) bool { return workload == workCreate || workload == workUpdate }

// batchSize is how many secrets a batch reads.
const batchSize = 64

func workload(name string, secrets int) dataset.Workload {
	switch name {
	case workBatch:
		return dataset.Batch(dataset.Hot, secrets, batchSize)
	case workVerify:
		return dataset.Verify(dataset.Hot, secrets)
	case workCreate:
		return dataset.Create(dataset.Fresh)
	case workUpdate:
		return dataset.Update(dataset.Changed, secrets)
	default:
		return dataset.Read(dataset.Hot, secrets)
	}
}

// cell is one measurement.
type cell struct {
	Workload    string  `json:"workload"`
	Server      string  `json:"server"`
	Connections int     `json:"connections"`
	Round       int     `json:"round"`
	Rate        float64 `json:"requests_per_second"`
	Secrets     float64 `json:"secrets_per_second"`
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	Max         float64 `json:"max_ms"`

	// Processor time per request, in microseconds, warm-up included; and the share of all processors' time that went to
	// anything else. Absent where the system doesn't tell.
	ClientCPU   *float64 `json:"client_us,omitempty"`
	ServerCPU   *float64 `json:"server_us,omitempty"`
	DatabaseCPU *float64 `json:"database_us,omitempty"`
	Others      *float64 `json:"others_share,omitempty"`
}

// loadOnce makes one load on a target and accounts for what was answered.
func (m *machine) loadOnce(ctx context.Context, t *target, name string, w dataset.Workload, shape load.Spec) (cell, error) {
	headers := ""
	if t.headers != nil {
		headers = t.headers(changes(name))
	}
	spec := w.Spec(t.address, headers)
	if t.expect != nil {
		spec.Expect = t.expect(spec.Expect)
	}
	spec.Connections, spec.Warmup, spec.Duration, spec.Requests = shape.Connections, shape.Warmup, shape.Duration, shape.Requests
	spec.First = t.next[name]

	before := m.meters(t)
	var result load.Result
	client, err := procs.Call(ctx, procs.Config{
		Name: "the load on " + t.name, Path: m.self, Args: []string{roleLoad},
		Env: environment("GODEBUG=asyncpreemptoff=1"), // nothing else waits for the one thread that works
	}, spec, &result)
	if err != nil {
		return cell{}, errors.Join(err, t.process.Err())
	}
	c := before.cell(m.meters(t), client, result.Answered)
	t.next[name] = result.Next
	if t.account != nil {
		t.account(name, w, result.Answered)
	}
	milliseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	c.Workload, c.Server, c.Connections = name, t.name, spec.Connections
	c.Rate, c.Secrets = result.Rate(), result.Rate()*float64(w.PerRequest)
	c.P50, c.P99, c.Max = milliseconds(result.P50), milliseconds(result.P99), milliseconds(result.Max)
	return c, nil
}

// meters are the processor times before or after a load.
type meters struct {
	at                     time.Time
	server, database, busy time.Duration
	ok                     bool
}

func (m *machine) meters(t *target) meters { return m.metersOf(t.process) }

func (m *machine) metersOf(servers ...*procs.Process) meters {
	var server procs.Usage
	ok1 := true
	for _, p := range servers {
		used, ok := procs.Of(p.PID(), false)
		server.CPU, ok1 = server.CPU+used.CPU, ok1 && ok
	}
	database, ok2 := procs.Of(m.server.PID(), true)
	busy, ok3 := procs.Busy()
	return meters{at: time.Now(), server: server.CPU, database: database.CPU, busy: busy, ok: ok1 && ok2 && ok3}
}

func (before meters) cell(after meters, client procs.Usage, requests uint64) cell {
	if !before.ok || !after.ok || requests == 0 {
		return cell{}
	}
	each := func(d time.Duration) *float64 {
		v := float64(d) / float64(time.Microsecond) / float64(requests)
		return &v
	}
	server, database := after.server-before.server, after.database-before.database
	others := max(0, float64(after.busy-before.busy-server-database-client.CPU)/float64(after.at.Sub(before.at))/float64(processors()))
	return cell{ClientCPU: each(client.CPU), ServerCPU: each(server), DatabaseCPU: each(database), Others: &others}
}

// startReference starts a reference server.
func (m *machine) startReference(ctx context.Context, kind string, c reference.Config) (*target, error) {
	c.Kind = kind
	input, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var report reference.Report
	process, err := procs.Serve(ctx, procs.Config{
		Name: "reference server " + kind, Path: m.self, Args: []string{roleServe}, Env: environment(),
		Log: m.file("reference-" + kind + ".log"), Input: input,
	}, &report)
	if err != nil {
		return nil, err
	}
	t := &target{name: kind, process: process, address: report.Address, next: map[string]uint64{}}
	switch kind {
	case reference.Constant: // it knows neither names nor values
		t.expect = func([]load.Template) []load.Template { return []load.Template{load.Text(`"value":"constant"`)} }
	case reference.Select: // it knows no values
		t.expect = func(all []load.Template) []load.Template { return all[:1] }
	}
	return t, nil
}

// verifyReferences holds the committed records against what was answered, for the servers that audit.
func (m *machine) verifyReferences(ctx context.Context, answered map[string]uint64) error {
	for kind, sql := range map[string]string{
		reference.Grouped:   "SELECT count(*) FROM reference.access_d",
		reference.Single:    "SELECT count(*) FROM reference.access_e",
		reference.Validated: "SELECT count(*) FROM vault.audit_log WHERE action = 'read'",
		reference.Bare:      "SELECT count(*) FROM vault.audit_log WHERE action <> 'read'",
	} {
		if answered[kind] == 0 {
			continue
		}
		var records uint64
		if err := m.query(ctx, "reference", sql, &records); err != nil {
			return err
		}
		if records != answered[kind] {
			return fmt.Errorf("server %s answered %d requests and recorded %d", kind, answered[kind], records)
		}
	}
	return nil
}
