package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/process"
)

// inform answers --version and --help, and refuses any other argument: a misspelt flag must not be taken for consent.
// It gives the status to exit with.
func inform(args []string, stdout, stderr io.Writer) int {
	switch {
	case len(args) == 1 && args[0] == "--version":
		fmt.Fprintln(stdout, "sealkeep api", process.Version)
		return 0
	case len(args) == 1 && (args[0] == "--help" || args[0] == "-h"):
		help(stdout)
		return 0
	default:
		// The argument isn't repeated: it may be a secret that was meant for a variable.
		fmt.Fprintln(stderr, "api takes no arguments but --help and --version; it is configured by its environment (see --help)")
		return 2
	}
}

func help(w io.Writer) {
	fmt.Fprint(w, `Usage: api [--help | --version]

Serves a vault over HTTP, until SIGTERM or SIGINT. It is configured by its environment. A variable marked with * holds a
secret, and can be given as a file by appending _FILE to its name. An empty variable counts as unset.

`)
	for _, v := range config.Variables() {
		if !slices.Contains(v.Programs, "api") {
			continue
		}
		mark := " "
		if v.Secret {
			mark = "*"
		}
		fmt.Fprintf(w, "%s %s\n      %s", mark, v.Name, plain(v.Type))
		if v.Default != "" {
			fmt.Fprintf(w, " (default %s)", v.Default)
		}
		fmt.Fprintf(w, "\n      %s\n", plain(v.Meaning))
	}
}

// plain takes off the marks of the manual, which a terminal doesn't render.
func plain(text string) string { return strings.ReplaceAll(text, "`", "") }
