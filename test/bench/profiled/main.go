// Command profiled is cmd/api under a CPU profile, which it writes when it ends to the file that SEALKEEP_CPU_PROFILE names:
// functions and times alone, nothing of the machine. scripts/profile.sh makes cmd/api/default.pgo with it, by which the
// product is compiled.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"

	"github.com/google/pprof/profile"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/process"
	"github.com/sealkeep/sealkeep/internal/telemetry"
)

const variable = "SEALKEEP_CPU_PROFILE"

func main() {
	ctx, stop := process.Signals(context.Background(), os.Exit)
	err := run(ctx, config.Environ(os.Environ()))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "profiled:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done, and writes the profile of that.
func run(ctx context.Context, environ map[string]string) error {
	path := environ[variable]
	if path == "" {
		return errors.New(variable + " must name the file to write")
	}
	delete(environ, variable)
	process.TuneMemory()
	log := telemetry.NewBuffer(os.Stderr)
	defer log.Close()
	cfg, err := boot.LoadAPI(environ)
	if err != nil {
		return err
	}
	server, err := boot.NewAPI(ctx, cfg, telemetry.NewLogger(log, cfg.LogLevel))
	if err != nil {
		return err
	}
	var raw bytes.Buffer
	if err := pprof.StartCPUProfile(&raw); err != nil {
		return err
	}
	err = server.Run(ctx)
	pprof.StopCPUProfile()
	return errors.Join(err, save(&raw, path))
}

// save writes a profile without the machine's paths, addresses and times.
func save(raw *bytes.Buffer, path string) error {
	p, err := profile.Parse(raw)
	if err != nil {
		return err
	}
	p.TimeNanos, p.Comments = 0, nil
	for _, m := range p.Mapping {
		m.File, m.BuildID = "api", ""
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(p.Compact().Write(file), file.Close())
}
