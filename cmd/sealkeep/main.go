// Command sealkeep is the operator's command line: it talks to the API, works on the database and the KMS offline, and
// runs a whole vault for development.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sealkeep/sealkeep/internal/cli"
	"github.com/sealkeep/sealkeep/internal/process"
)

func main() {
	if err := process.Harden(); err != nil {
		fmt.Fprintln(os.Stderr, "sealkeep:", err)
		os.Exit(1)
	}
	ctx, stop := interruptible(context.Background())
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

// interruptible returns a context that ends at the first SIGINT or SIGTERM. Another one, when somebody is tired of
// waiting, ends the program at once; but what comes within a second is the same wish: supervisors often signal a process
// and then its whole group.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	received := make(chan os.Signal, 2)
	signal.Notify(received, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-received
		cancel()
		first := time.Now()
		for range received {
			if time.Since(first) > time.Second {
				os.Exit(1)
			}
		}
	}()
	return ctx, cancel
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
