package faults

import (
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/test/pgproxy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// Kinds of the statements that evidence rests on.
const (
	kindRound  = "shared round"     // the append of a read's record: one statement that commits by itself
	kindAppend = "append"           // the append within a change's transaction
	kindCommit = "commit"           // of a change
	kindChange = "statement"        // one that a change consists of
	kindOpen   = "opening"          // of a stream
	kindOpened = "opening's commit" // of the transaction that opens a stream
	kindBegin  = "begin"
	kindLookup = "lookup" // of a secret, outside transactions
)

func classify(sql string, tx pgproxy.Transaction) string {
	has := func(parts ...string) bool {
		for _, part := range parts {
			if !strings.Contains(sql, part) {
				return false
			}
		}
		return true
	}
	switch {
	case has("INSERT INTO vault.audit_log", "unnest("):
		if tx.Open {
			return kindAppend
		}
		return kindRound
	case has("INSERT INTO vault.audit_streams"):
		return kindOpen
	case sql == "begin":
		return kindBegin
	case sql == "commit" && tx.Seen[kindAppend]:
		return kindCommit
	case sql == "commit" && tx.Seen[kindOpen]:
		return kindOpened
	case tx.Open && (has("INSERT INTO vault.secret") || has("UPDATE vault.secret") || has("DELETE FROM vault.secret")):
		return kindChange
	case !tx.Open && has("FROM vault.secrets"):
		return kindLookup
	}
	return ""
}
