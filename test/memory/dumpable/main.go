// Command dumpable is cmd/api without process.Harden, so that a test that isn't root may read its memory. Nothing else differs.
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

func main() {
	ctx, stop := process.Signals(context.Background(), os.Exit)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "dumpable:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cfg, err := boot.LoadAPI(config.Environ(os.Environ()))
	if err != nil {
		return err
	}
	server, err := boot.NewAPI(ctx, cfg, telemetry.NewLogger(os.Stderr, cfg.LogLevel))
	if err != nil {
		return err
	}
	return server.Run(ctx)
}
