package cli

import (
	"context"
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/cli/dev"
	"github.com/sealkeep/sealkeep/internal/telemetry"
)

// apiChildCommand is an API process under the parent that `dev` is: it tells the parent where it will listen, waits for
// its word, and ends when its standard input does, as only the parent holds the other end.
func (a *app) apiChildCommand() *cobra.Command {
	return &cobra.Command{
		Use:    apiChildName,
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
			api, err := a.bindAPI(ctx)
			if err != nil {
				_ = json.NewEncoder(a.Stdout).Encode(dev.Report{Error: err.Error()}) // the log has it too
				return err
			}
			defer api.Close()
			report := dev.Report{API: api.Addr().String(), Telemetry: api.TelemetryAddr().String()}
			if err := json.NewEncoder(a.Stdout).Encode(report); err != nil {
				return err
			}
			select {
			case <-told:
				return api.Run(ctx)
			case <-ctx.Done():
				return nil
			}
		},
	}
}

func (a *app) bindAPI(ctx context.Context) (*boot.APIProcess, error) {
	cfg, err := boot.LoadAPI(a.Environ)
	if err != nil {
		return nil, err
	}
	return boot.NewAPI(ctx, cfg, telemetry.NewLogger(a.Stderr, cfg.LogLevel))
}
