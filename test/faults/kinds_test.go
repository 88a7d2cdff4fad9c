package faults

import (
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// Kinds of the statements that evidence rests on.
const (
	kindRound  = vaulttest.KindRound
	kindAppend = vaulttest.KindAppend
	kindCommit = vaulttest.KindCommit
	kindChange = vaulttest.KindChange
	kindOpen   = vaulttest.KindOpen
	kindOpened = vaulttest.KindOpened
	kindBegin  = vaulttest.KindBegin
	kindLookup = vaulttest.KindLookup
)
