package boot

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/process"
	"github.com/sealkeep/sealkeep/internal/telemetry"
)

// Program is a program that serves until it is told to stop.
type Program struct {
	Name string
	// Does is what it does, in one sentence of its help.
	Does string
	// Load understands its configuration.
	Load func(environ map[string]string) (Configuration, error)
}

// Configuration is what a program was told, understood in full. Whoever doesn't Build releases it.
type Configuration interface {
	// Level is the least severe level that is logged.
	Level() slog.Level
	// Build makes the process, and releases the configuration whatever the outcome.
	Build(ctx context.Context, log *slog.Logger) (Process, error)
	Release()
}

// Process is a process that was built: it is Run once, or closed.
type Process interface {
	Run(ctx context.Context) error
	Close()
	// TelemetryAddr is where probes and metrics are served.
	TelemetryAddr() net.Addr
}

// The programs.
var (
	APIProgram = Program{
		Name: "api", Does: "Serves a vault over HTTP, until SIGTERM or SIGINT.",
		Load: func(environ map[string]string) (Configuration, error) { return LoadAPI(environ) },
	}
	RotatorProgram = Program{
		Name: "rotator", Does: "Rotates the secrets of a vault when they are due, until SIGTERM or SIGINT. Any number may run.",
		Load: func(environ map[string]string) (Configuration, error) { return LoadRotator(environ) },
	}
)

// Level is the least severe level that is logged.
func (a *API) Level() slog.Level { return a.LogLevel }

// Build is NewAPI.
func (a *API) Build(ctx context.Context, log *slog.Logger) (Process, error) {
	return NewAPI(ctx, a, log)
}

// Level is the least severe level that is logged.
func (r *Rotator) Level() slog.Level { return r.LogLevel }

// Build is NewRotator.
func (r *Rotator) Build(ctx context.Context, log *slog.Logger) (Process, error) {
	return NewRotator(ctx, r, log)
}

// Serve runs the program until ctx is done, and gives the status to exit with.
func (p Program) Serve(ctx context.Context, environ map[string]string, stderr io.Writer) int {
	cfg, err := p.Load(environ)
	if err != nil {
		fmt.Fprintln(stderr, p.Name+":", err)
		return 1
	}
	log := telemetry.NewLogger(stderr, cfg.Level())
	built, err := cfg.Build(ctx, log)
	switch {
	case err != nil && ctx.Err() != nil:
		log.Info("stopped before it had started", "error", err)
		return 0
	case err != nil:
		log.Error("can't start", "error", err)
		return 1
	}
	if err := built.Run(ctx); err != nil {
		log.Error("stopped with errors", "error", err)
		return 1
	}
	log.Info("stopped")
	return 0
}

// Inform answers --version and --help, and refuses any other argument: a misspelt flag must not be taken for consent.
// It gives the status to exit with.
func (p Program) Inform(args []string, stdout, stderr io.Writer) int {
	switch {
	case len(args) == 1 && args[0] == "--version":
		fmt.Fprintln(stdout, "sealkeep", p.Name, process.Version)
		return 0
	case len(args) == 1 && (args[0] == "--help" || args[0] == "-h"):
		p.help(stdout)
		return 0
	default:
		// The argument isn't repeated: it may be a secret that was meant for a variable.
		fmt.Fprintln(stderr, p.Name+" takes no arguments but --help and --version; it is configured by its environment (see --help)")
		return 2
	}
}

func (p Program) help(w io.Writer) {
	fmt.Fprintf(w, `Usage: %s [--help | --version]

%s It is configured by its environment. A variable marked with * holds a
secret, and can be given as a file by appending _FILE to its name. An empty variable counts as unset.

`, p.Name, p.Does)
	for _, v := range config.Variables() {
		if !slices.Contains(v.Programs, p.Name) {
			continue
		}
		mark := " "
		if v.Secret {
			mark = "*"
		}
		fmt.Fprintf(w, "%s %s\n      %s", mark, v.Name, plain(v.Type))
		if byDefault := v.DefaultOf(p.Name); byDefault != "" {
			fmt.Fprintf(w, " (default %s)", byDefault)
		}
		fmt.Fprintf(w, "\n      %s\n", plain(v.Meaning))
	}
}

// plain takes off the marks of the manual, which a terminal doesn't render.
func plain(text string) string { return strings.ReplaceAll(text, "`", "") }
