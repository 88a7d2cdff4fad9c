package cli

import (
	"context"
	"encoding/json"
	"io"
	"net"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/cli/dev"
	"github.com/sealkeep/sealkeep/internal/telemetry"
)

// The hidden commands with which `dev` runs this binary again as one of its processes.
const (
	apiChildName     = "__api"
	rotatorChildName = "__rotator"
)

// childCommand is a program as a process under the parent that `dev` is: it tells the parent where it will listen, waits for
// its word, and ends when its standard input does, as only the parent holds the other end.
func (a *app) childCommand(name string, program boot.Program) *cobra.Command {
	return &cobra.Command{
		Use:    name,
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			told := make(chan struct{})
			go func() {
				defer cancel()
				if n, _ := a.Stdin.Read(make([]byte, 1)); n == 1 {
					close(told)
				}
				_, _ = io.Copy(io.Discard, a.Stdin) // either way the parent is gone
			}()
			process, err := a.bind(ctx, program)
			if err != nil {
				_ = json.NewEncoder(a.Stdout).Encode(dev.Report{Error: err.Error()}) // the log has it too
				return err
			}
			defer process.Close()
			report := dev.Report{Telemetry: process.TelemetryAddr().String()}
			if api, ok := process.(interface{ Addr() net.Addr }); ok {
				report.API = api.Addr().String()
			}
			if err := json.NewEncoder(a.Stdout).Encode(report); err != nil {
				return err
			}
			select {
			case <-told:
				return process.Run(ctx)
			case <-ctx.Done():
				return nil
			}
		},
	}
}

// bind builds a program's process from the environment, with its addresses taken.
func (a *app) bind(ctx context.Context, program boot.Program) (boot.Process, error) {
	cfg, err := program.Load(a.Environ)
	if err != nil {
		return nil, err
	}
	return cfg.Build(ctx, telemetry.NewLogger(a.Stderr, cfg.Level()))
}
