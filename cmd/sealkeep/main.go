// Command sealkeep is the operator's command line: it talks to the API, works on the database and the KMS offline, and
// runs a whole vault for development.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/sealkeep/sealkeep/internal/cli"
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
		Environ: environ(),
	})
	stop()
	os.Exit(status)
}

// environ gives the environment as a map. Of a name that is there twice the first counts, as it does for os.Getenv.
func environ() map[string]string {
	entries := os.Environ()
	vars := make(map[string]string, len(entries))
	for _, entry := range entries {
		name, value, _ := strings.Cut(entry, "=")
		if _, there := vars[name]; !there {
			vars[name] = value
		}
	}
	return vars
}
