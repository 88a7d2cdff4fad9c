package process

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// asProgram makes this test's binary run as a program of its own, for what concerns a whole process.
const asProgram = "SEALKEEP_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if program, ok := programs[os.Getenv(asProgram)]; ok {
		if err := program(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
