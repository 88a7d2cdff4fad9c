// Command rotator rotates the secrets of a vault when they are due. It is configured by its environment; --help lists the variables.
//
// Invariants:
//   - I1: core dumps are off before anything secret is read.
//   - It exits with 0 after it was told to stop and did so in order, with 2 when it was called in a way that it doesn't
//     know, and with 1 otherwise.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/process"
	"github.com/sealkeep/sealkeep/internal/telemetry"
)

// memory is about what a rotator takes of Go's memory, in bytes. What it remembers of the secrets that it has rotated makes most of it, when
// they are tens of thousands; the program itself and locked memory come on top, about 20 MiB.
const memory = 40 << 20

func main() {
	program := boot.RotatorProgram
	if len(os.Args) > 1 {
		os.Exit(program.Inform(os.Args[1:], os.Stdout, os.Stderr))
	}
	if err := process.Harden(); err != nil {
		fmt.Fprintln(os.Stderr, program.Name+":", err)
		os.Exit(1)
	}
	process.TuneMemoryWithin(memory)
	log := telemetry.NewBuffer(os.Stderr)
	defer log.Close() // also after a panic
	exit := func(status int) {
		log.Close()
		os.Exit(status)
	}
	ctx, stop := process.Signals(context.Background(), exit)
	status := program.Serve(ctx, config.Environ(os.Environ()), log)
	stop()
	exit(status)
}
