package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/test/bench/dataset"
	"github.com/sealkeep/sealkeep/test/bench/load"
	"github.com/sealkeep/sealkeep/test/bench/procs"
	"github.com/sealkeep/sealkeep/test/bench/reference"
)

// bench is one run.
type bench struct {
	*options
	*machine
	out     io.Writer // progress and results
	results results

	vault    *vaultData // nil when the vault isn't measured
	other    *vaultData // of another build; nil when none is measured
	targets  []*target
	answered map[string]uint64 // by reference server
}

func processors() int { return runtime.NumCPU() }

// measure does a whole run.
func measure(ctx context.Context, o *options, out io.Writer) (err error) {
	m, err := newMachine(ctx, o.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	b := &bench{options: o, machine: m, out: out, answered: map[string]uint64{}}
	b.results.describe(m)
	fmt.Fprintf(out, "PostgreSQL %s, fsync and synchronous_commit on; %d processors, shared by load, servers and database; %s\n",
		m.binaries.Version, processors(), load1())
	if o.scale {
		err = b.scale(ctx)
	} else {
		err = b.all(ctx)
	}
	if err != nil {
		return err
	}
	return b.results.write(o, out)
}

// load1 says how busy the machine is, if it tells.
func load1() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "load unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return "load average " + first
}

// all runs the chosen parts.
func (b *bench) all(ctx context.Context) error {
	if len(b.requests()) > 0 {
		if err := b.allRequests(ctx); err != nil {
			return err
		}
	}
	if b.has(b.workloads, workRotate) && (b.has(b.parts, partRates) || b.has(b.parts, partMemory)) {
		return b.rotations(ctx)
	}
	return nil
}

// allRequests runs the parts that are about what is asked of servers.
func (b *bench) allRequests(ctx context.Context) (err error) {
	if b.has(b.servers, vaultServer) {
		if err := b.makeVault(ctx); err != nil {
			return err
		}
		if b.has(b.parts, partStart) {
			if err := b.timeStarts(ctx); err != nil {
				return err
			}
		}
	}
	if b.has(b.parts, partRates) {
		if err := b.makeOther(ctx); err != nil {
			return err
		}
		if err := b.rates(ctx); err != nil {
			return err
		}
	}
	if b.other != nil {
		if err := b.other.verify(ctx); err != nil {
			return err
		}
	}
	if b.vault != nil {
		if b.has(b.parts, partMemory) {
			if err := b.memory(ctx); err != nil {
				return err
			}
		}
		if err := b.vault.verify(ctx); err != nil {
			return err
		}
	}
	return b.verifyReferences(ctx, b.answered)
}

// target makes a process one that can be measured.
func (p *vaultProcess) target(name string) *target {
	return &target{
		name: name, process: p.process, address: p.address, headers: p.headers, next: map[string]uint64{},
		account: func(workload string, w dataset.Workload, answered uint64) {
			p.data.records += answered * w.PerRequest
			if workload == workCreate && strings.Contains(string(w.Body.Text), dataset.Fresh) {
				p.data.created += answered
			}
		},
	}
}

// rates measures all servers in turns.
func (b *bench) rates(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, b.stopTargets()) }()
	if err := b.startTargets(ctx); err != nil {
		return err
	}
	total := 0
	for _, w := range b.requests() {
		for _, t := range b.targets {
			if servesOn(t.name, w) {
				total += len(b.connections)
			}
		}
	}
	each := b.warmup + b.time
	b.say("%d measurements of %s each: %s", total*b.rounds, each, (time.Duration(total*b.rounds) * (each + 50*time.Millisecond)).Round(time.Second))
	for round := range b.rounds {
		for _, connections := range b.connections {
			for _, w := range b.requests() {
				if err := b.turn(ctx, round, connections, w); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// turn measures each server once. The first to be measured is another one each round.
func (b *bench) turn(ctx context.Context, round, connections int, name string) error {
	n := len(b.targets)
	for i := range n {
		t := b.targets[(i+round)%n]
		if !servesOn(t.name, name) {
			continue
		}
		shape := load.Spec{Connections: connections, Warmup: b.warmup, Duration: b.time}
		if err := b.record(ctx, round, t, name, workload(name, b.secrets), shape); err != nil {
			return err
		}
	}
	return nil
}

// record measures one server once and keeps what came of it, unless others took too much of the machine meanwhile: then it
// measures again, whatever the result was.
func (b *bench) record(ctx context.Context, round int, t *target, name string, w dataset.Workload, shape load.Spec) error {
	for try := 1; ; try++ {
		if err := b.awaitQuiet(ctx); err != nil {
			return err
		}
		c, err := b.loadOnce(ctx, t, name, w, shape)
		if err != nil {
			return err
		}
		c.Round = round + 1
		others := ""
		if c.Others != nil {
			others = fmt.Sprintf("  (others %.0f%%)", 100**c.Others)
		}
		b.say("round %d  %-6s  %3d connections  %-5s  %9.0f/s  p50 %7.2f ms  p99 %7.2f ms%s",
			c.Round, name, shape.Connections, t.name, c.Rate, c.P50, c.P99, others)
		if c.Others == nil || *c.Others*100 <= float64(b.quiet) || try == mostTries {
			b.results.Cells = append(b.results.Cells, c)
			return nil
		}
	}
}

// How often a disturbed measurement is repeated, and how long to wait for a quiet machine, before it is taken as it is. The
// results say how disturbed it was.
const (
	mostTries   = 20
	longestWait = 2 * time.Minute
)

// awaitQuiet waits until nothing else uses more of the processors than is allowed.
func (b *bench) awaitQuiet(ctx context.Context) error {
	const look = 300 * time.Millisecond
	for until := time.Now().Add(longestWait); b.quiet < 100 && time.Now().Before(until); {
		before, ok := procs.Busy()
		if !ok {
			return nil
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return ctx.Err()
		}
		after, _ := procs.Busy()
		if float64(after-before) <= float64(look)*float64(processors())*float64(b.quiet)/100 {
			return nil
		}
	}
	return nil
}

// startTargets starts the chosen servers.
func (b *bench) startTargets(ctx context.Context) error {
	kinds := slices.DeleteFunc(slices.Clone(b.servers), func(s string) bool { return s == vaultServer || s == otherServer })
	if len(kinds) > 0 {
		sizes := vaultSizes
		if b.vault != nil {
			err := b.query(ctx, b.vault.database, "SELECT octet_length(wrapped_dek), octet_length(ciphertext), octet_length(kms_key_id) FROM vault.secret_versions LIMIT 1",
				&sizes.WrappedDEK, &sizes.Ciphertext, &sizes.KMSKeyID)
			if err != nil {
				return err
			}
		}
		b.say("filling the references' tables")
		config, err := reference.Prepare(ctx, b.superuser, b.secrets, changeLanes, sizes)
		if err != nil {
			return err
		}
		for _, kind := range kinds {
			t, err := b.startReference(ctx, kind, config)
			if err != nil {
				return err
			}
			t.account = func(_ string, _ dataset.Workload, answered uint64) { b.answered[kind] += answered }
			b.targets = append(b.targets, t)
		}
	}
	if b.vault != nil {
		p, err := b.vault.start(ctx, "vault")
		if err != nil {
			return err
		}
		b.targets = append(b.targets, p.target(vaultServer))
	}
	if b.other != nil {
		p, err := b.other.start(ctx, otherServer)
		if err != nil {
			return err
		}
		b.targets = append(b.targets, p.target(otherServer))
	}
	return nil
}

// What the vault stores for a value of a secret of this benchmark, in bytes, should there be no vault to ask.
var vaultSizes = reference.Sizes{WrappedDEK: 73, Ciphertext: 122, KMSKeyID: 22}

// changeLanes is how many streams writers have: as many as there are connections.
const changeLanes = 16

func (b *bench) stopTargets() error {
	var errs []error
	for _, t := range b.targets {
		errs = append(errs, t.process.Stop(stopPatience))
	}
	b.targets = nil
	return errors.Join(errs...)
}

// say tells what is going on.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.out, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}
