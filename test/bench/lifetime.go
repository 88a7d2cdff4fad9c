package main

import (
	"context"
	"errors"
	"time"

	"github.com/sealkeep/sealkeep/test/bench/dataset"
	"github.com/sealkeep/sealkeep/test/bench/load"
	"github.com/sealkeep/sealkeep/test/bench/procs"
)

// timeStarts times starts of the vault on a database that answers.
func (b *bench) timeStarts(ctx context.Context) error {
	for range b.starts {
		p, err := b.vault.start(ctx, "vault-start")
		if err != nil {
			return err
		}
		b.results.Starts = append(b.results.Starts, float64(p.ready)/float64(time.Millisecond))
		if err := p.process.Stop(stopPatience); err != nil {
			return err
		}
	}
	b.say("%d starts: %.0f ms", b.starts, b.results.Starts)
	return nil
}

// memorySample is a process's memory after some reads.
type memorySample struct {
	Reads    uint64  `json:"reads"`
	Resident float64 `json:"resident_mib"`
	Peak     float64 `json:"peak_mib"`
}

// memoryConnections is how many connections read while the memory is watched.
const memoryConnections = 32

// memory reads b.reads times from a new process, in ten loads, and looks at its memory after each.
func (b *bench) memory(ctx context.Context) (err error) {
	p, err := b.vault.start(ctx, "vault-memory")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.process.Stop(stopPatience)) }()
	t := p.target(vaultServer)
	const loads = 10
	for i := range uint64(loads) {
		shape := load.Spec{Connections: memoryConnections, Requests: b.reads / loads}
		if _, err := b.loadOnce(ctx, t, workRead, dataset.Read(dataset.Hot, b.secrets), shape); err != nil {
			return err
		}
		resident, peak, err := procs.Memory(p.process.PID())
		if err != nil {
			b.say("memory can't be read here: %v", err)
			return nil
		}
		const mib = 1 << 20
		s := memorySample{Reads: (i + 1) * (b.reads / loads), Resident: float64(resident) / mib, Peak: float64(peak) / mib}
		b.results.Memory = append(b.results.Memory, s)
		b.say("%d reads at %d connections: %.1f MiB resident, %.1f MiB at most", s.Reads, memoryConnections, s.Resident, s.Peak)
	}
	return nil
}
