// Command sealkeep is the operator's command line: it talks to the API, works on the database and the KMS offline, and
// runs a whole vault for development.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/sealkeep/sealkeep/internal/cli"
	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/process"
)

func main() {
	if err := process.Harden(); err != nil {
		fmt.Fprintln(os.Stderr, "sealkeep:", err)
		os.Exit(1)
	}
	ctx, stop := process.Signals(context.Background(), os.Exit)
	status := cli.Run(ctx, cli.Invocation{
		Program: os.Args[0],
		Args:    os.Args[1:],
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Environ: config.Environ(os.Environ()),
	})
	stop()
	os.Exit(status)
}
