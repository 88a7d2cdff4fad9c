package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/sealkeep/sealkeep/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestManualIsFresh(t *testing.T) {
	t.Parallel()
	written, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != render(config.Variables()) {
		t.Error("docs/configuration.md is stale: run `go generate ./internal/config`")
	}
}
