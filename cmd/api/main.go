// Command api serves a vault over HTTP. It is configured by its environment; --help lists the variables.
//
// Invariants:
//   - I1: core dumps are off before anything secret is read.
//   - It exits with 0 after it was told to stop and did so in order, with 2 when it was called in a way that it doesn't
//     know, and with 1 otherwise.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/process"
	"github.com/sealkeep/sealkeep/internal/telemetry"
)

func main() {
	if len(os.Args) > 1 {
		os.Exit(inform(os.Args[1:], os.Stdout, os.Stderr))
	}
	if err := process.Harden(); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
	process.TuneMemory()
	log := telemetry.NewBuffer(os.Stderr)
	defer log.Close() // also after a panic
	exit := func(status int) {
		log.Close()
		os.Exit(status)
	}
	ctx, stop := process.Signals(context.Background(), exit)
	status := run(ctx, config.Environ(os.Environ()), log)
	stop()
	exit(status)
}

// run serves until ctx is done, and gives the status to exit with.
func run(ctx context.Context, environ map[string]string, stderr io.Writer) int {
	cfg, err := boot.LoadAPI(environ)
	if err != nil {
		fmt.Fprintln(stderr, "api:", err)
		return 1
	}
	log := telemetry.NewLogger(stderr, cfg.LogLevel)
	server, err := boot.NewAPI(ctx, cfg, log)
	switch {
	case err != nil && ctx.Err() != nil:
		log.Info("stopped before it had started", "error", err)
		return 0
	case err != nil:
		log.Error("can't start", "error", err)
		return 1
	}
	if err := server.Run(ctx); err != nil {
		log.Error("stopped with errors", "error", err)
		return 1
	}
	log.Info("stopped")
	return 0
}
