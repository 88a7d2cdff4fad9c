// Command kmsserver is a KMS for tests: a process of its own that speaks AWS KMS's JSON protocol on a loopback port, as far as
// Sealkeep uses it, and is strict about it. On a second port it is told to fail. See package kmsd.
//
// It prints one line of JSON with its addresses, and with -key the ARN of a fresh key, and serves until its standard input ends.
package main

import (
	"fmt"
	"os"

	"github.com/sealkeep/sealkeep/test/kmsserver/kmsd"
)

func main() {
	if err := kmsd.Main(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kmsserver:", err)
		os.Exit(1)
	}
}
