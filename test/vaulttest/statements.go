package vaulttest

import (
	"strings"

	"github.com/sealkeep/sealkeep/test/pgproxy"
)

// Kinds of the statements that answers rest on, as Classify names them. A connection is told by the kinds that it runs: that of
// shared rounds is the one that runs KindRound, and so on.
const (
	KindRound  = "shared round"     // the append of reads' records, or of denials': one statement that commits by itself
	KindAppend = "append"           // the append within a change's transaction
	KindCommit = "commit"           // of a change
	KindChange = "statement"        // one that a change consists of
	KindOpen   = "opening"          // of a stream
	KindOpened = "opening's commit" // of the transaction that opens a stream
	KindBegin  = "begin"
	KindLookup = "lookup" // of sealed versions, outside transactions
)

// Classify is a pgproxy.Classifier of the vault's statements. It goes by the tables that a statement works on, not by its form.
func Classify(sql string, tx pgproxy.Transaction) string {
	has := func(parts ...string) bool {
		for _, part := range parts {
			if !strings.Contains(sql, part) {
				return false
			}
		}
		return true
	}
	is := func(command string) bool { return strings.EqualFold(strings.TrimSpace(sql), command) }
	switch {
	// The head moves with what is appended, in one statement; no other one does both.
	case has("UPDATE vault.audit_streams", "INSERT INTO vault.audit_log"):
		if tx.Open {
			return KindAppend
		}
		return KindRound
	case has("INSERT INTO vault.audit_streams"):
		return KindOpen
	case is("begin"):
		return KindBegin
	case is("commit") && tx.Seen[KindAppend]:
		return KindCommit
	case is("commit") && tx.Seen[KindOpen]:
		return KindOpened
	case tx.Open && (has("INSERT INTO vault.secret") || has("UPDATE vault.secret") || has("DELETE FROM vault.secret")):
		return KindChange
	case !tx.Open && has("vault.secrets", "vault.secret_versions", "ciphertext"):
		return KindLookup
	}
	return ""
}
