package doctest

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The threat model that docs/threat-model.md answers, word by word. It is the measure: what it says is never changed to
// suit the answer.
var (
	assets = []string{
		"Secret plaintext values (highest value).",
		"The KMS master key and derived DEKs.",
		"Admin tokens.",
		"The audit trail (integrity).",
	}
	boundaries = []string{
		"Network client ↔ API (HTTP).",
		"API ↔ PostgreSQL (libpq).",
		"API ↔ AWS KMS.",
		"Primary ↔ standbys (WAL stream, managed by pg_replica).",
	}
	actors = []string{
		"Anonymous network client — may reach the API port.",
		"Read client — an allowlisted service that fetches/verifies secrets.",
		"Admin — holds an admin token; manages secrets.",
		"DB-only adversary — can read Postgres files / WAL / a standby, but not the KMS key or the API process memory.",
		"Insider with table write — can modify rows in vault.*.",
	}
	threats = []struct{ threat, mitigation string }{
		{
			"Spoofing a read client by IP",
			"IPv4/CIDR allowlist, fail-closed. Proxy IP trusted only when VAULT_TRUST_PROXY is set behind a trusted proxy.",
		},
		{
			"Spoofing an admin",
			"High-entropy bearer tokens; only SHA-256 fingerprints stored; constant-time check; revocation.",
		},
		{
			"Tampering with stored ciphertext",
			"AEAD tag fails open; AAD binds ciphertext to name:version so rows can’t be swapped between secrets/versions.",
		},
		{
			"Tampering to escalate read access",
			"RLS FORCEd + REVOKE FROM PUBLIC; only the scoped service role can touch rows.",
		},
		{
			"Repudiation",
			"Append-only vault.audit_log with actor/IP/action/outcome.",
		},
		{
			"Information disclosure from DB/WAL/standby theft",
			"Only ciphertext + wrapped DEK at rest; decryption requires the KMS key (separate trust domain).",
		},
		{
			"Information disclosure via error messages",
			"Internal errors return a generic 500; crypto/DB detail is logged server-side only.",
		},
		{
			"Information disclosure via timing on /verify",
			"Constant-time comparison of presented value vs decrypted versions.",
		},
		{
			"DoS via large bodies",
			"1 MiB request body limit; secret value size cap.",
		},
		{
			"Elevation via rotation worker races",
			"rotation_jobs claimed with FOR UPDATE SKIP LOCKED; stale claims reclaimed; rotation is a primary-only write.",
		},
		{
			"Nonce reuse weakening AEAD",
			"192-bit random XChaCha20 nonces, fresh per version; uniqueness covered by tests.",
		},
		{
			"Key material in memory after use",
			"Zeroizing DEKs/master keys. The DEK cache holds unwrapped keys for up to VAULT_DEK_CACHE_TTL_SECS (never plaintext); " +
				"lower or disable the TTL to shrink the window.",
		},
	}
	openItems = []string{
		"TLS to Postgres is not enabled in the scaffold (NoTls).",
		"API TLS termination must be added (proxy or in-process).",
		"Admin-token bootstrap flow (initial token provisioning) is operator-defined.",
		"A KMS outage makes reads/writes fail closed (availability vs confidentiality trade-off) — adjust caching to avoid rate limits",
		"The IP allowlist is IPv4-only by spec; IPv6 clients are denied.",
	}
)

// section gives what stands under a heading, up to the next one of that level or above.
func section(text, heading string) string {
	_, rest, found := strings.Cut(text, "\n"+heading+"\n")
	if !found {
		return ""
	}
	level := len(heading) - len(strings.TrimLeft(heading, "#"))
	var body strings.Builder
	for line := range strings.SplitAfterSeq(rest, "\n") {
		marks := len(line) - len(strings.TrimLeft(line, "#"))
		if marks > 0 && marks <= level && strings.HasPrefix(line[marks:], " ") {
			break
		}
		body.WriteString(line)
	}
	return body.String()
}

// says tells whether text holds a sentence, however its lines are broken or quoted.
func says(text, sentence string) bool {
	flat := func(s string) string {
		return strings.Join(strings.Fields(strings.NewReplacer("\n> ", " ", "`", "", "|", " ").Replace(s)), " ")
	}
	return strings.Contains(flat(text), flat(sentence))
}

func TestThreatModelLeavesNothingOut(t *testing.T) {
	t.Parallel()
	text := the(t, "docs/threat-model.md").text
	if says(text, "An invented threat that nobody listed") || says(section(text, "## Assets"), openItems[0]) {
		t.Error("control: found what isn't there")
	}
	for heading, items := range map[string][]string{
		"## Assets": assets, "## Trust boundaries": boundaries, "## Actors": actors, "## Residual risks and open items": openItems,
	} {
		body := section(text, heading)
		for _, item := range items {
			if !says(body, item) {
				t.Errorf("%s doesn't answer %q", heading, item)
			}
		}
	}
	for _, row := range threats {
		body := section(text, "### "+row.threat)
		if !says(body, row.mitigation) {
			t.Errorf("%q isn't answered together with what the model asks: %q", row.threat, row.mitigation)
		}
		for _, part := range []string{"**Here.**", "**Proven by.**", "**Remains.**"} {
			if !strings.Contains(body, "\n"+part+" ") {
				t.Errorf("%q: there is no %s", row.threat, part)
			}
		}
	}
}

func TestThreatModelAnswersEveryInvariant(t *testing.T) {
	t.Parallel()
	rows := regexp.MustCompile(`(?m)^\| I(\d+) \|(.*)\|(.*)\|(.*)\|$`).FindAllStringSubmatch(
		section(the(t, "docs/threat-model.md").text, "## Invariants"), -1)
	if len(rows) != 13 {
		t.Fatalf("%d invariants have a row", len(rows))
	}
	for i, row := range rows {
		if row[1] != strconv.Itoa(i+1) {
			t.Errorf("row %d is of I%s", i+1, row[1])
		}
		for _, cell := range row[2:] {
			if strings.TrimSpace(cell) == "" {
				t.Errorf("I%s has an empty cell", row[1])
			}
		}
	}
}
