// Command findpg prints the folder of the PostgreSQL server that `sealkeep dev` and the tests would use, and its
// version, on one line each, so that the scripts have no search of their own.
package main

import (
	"fmt"
	"os"

	"github.com/sealkeep/sealkeep/internal/pgserver"
)

func main() {
	found, err := pgserver.Find(os.Getenv, "")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stdout, "%s\n%s\n", found.Dir, found.Version)
}
