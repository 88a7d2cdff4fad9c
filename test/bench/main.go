// Command bench measures the vault beside reference servers that do parts of its work, on one PostgreSQL that it starts for
// the purpose. docs/benchmarks.md says how to read what it prints.
//
// Invariants:
//   - Everything is measured in one run and in turns, round by round: only the ratios within a run mean anything.
//   - The PostgreSQL server flushes every commit: fsync, full page writes and synchronous_commit are on, and are checked.
//   - The vault is the program that is shipped, in a process of its own, with its default settings.
//   - Every answer is checked for its status and a sample for its value; at the end the committed records are counted, and
//     each server that audits must have one for every answer that it gave. Anything else ends the run with an error.
//   - It ends every process that it started and removes every folder that it made, also when it is interrupted.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/sealkeep/sealkeep/test/bench/load"
	"github.com/sealkeep/sealkeep/test/bench/reference"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:])
	interrupted := ctx.Err() != nil // stop ends it, too
	stop()
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case interrupted:
		fmt.Fprintln(os.Stderr, "bench: interrupted")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// The arguments with which the benchmark starts itself anew, as a process that isn't for people.
const (
	roleServe  = "serve-reference"
	roleRotate = "rotate-reference"
	roleLoad   = "make-load"
)

func run(ctx context.Context, args []string) error {
	if len(args) == 1 {
		switch args[0] {
		case roleServe:
			return reference.Main(ctx, os.Stdin, os.Stdout)
		case roleRotate:
			return reference.Rotate(ctx, os.Stdin, os.Stdout)
		case roleLoad:
			return makeLoad(ctx, os.Stdin, os.Stdout)
		}
	}
	o, err := parseOptions(args, os.Stderr)
	if err != nil {
		return err
	}
	return measure(ctx, o, os.Stdout)
}

// makeLoad makes the load that in says, and writes what came of it to out.
func makeLoad(ctx context.Context, in io.Reader, out io.Writer) error {
	debug.SetGCPercent(-1) // there is next to no garbage
	var spec load.Spec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return fmt.Errorf("reading what load to make: %w", err)
	}
	result, err := load.Run(ctx, spec)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}
