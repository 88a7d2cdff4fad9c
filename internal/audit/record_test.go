package audit

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

func TestPrintable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"plain text stays", "token:ops", "token:ops"},
		{"letters of any script stay", "clé-ключ-鍵", "clé-ключ-鍵"},
		{"what fits exactly is not cut", strings.Repeat("a", 32), strings.Repeat("a", 32)},
		{"what fits exactly when escaped is not cut", strings.Repeat("a", 30) + `\`, strings.Repeat("a", 30) + `\\`},
		{"what is too long is cut and says so", strings.Repeat("a", 33), strings.Repeat("a", 27) + "[cut]"},
		{"a cut leaves characters whole", strings.Repeat("鍵", 20), strings.Repeat("鍵", 9) + "[cut]"},
		{"a cut leaves escapes whole", strings.Repeat("\x00", 20), strings.Repeat(`\x00`, 6) + "[cut]"},
		{"an escape can't be imitated", `\x00`, `\\x00`},
		{"controls are escaped", "a\x00b\r\n\x7f", `a\x00b\x0d\x0a\x7f`},
		{"invalid UTF-8 is escaped byte for byte", "a\xff\xc3(", `a\xff\xc3(`},
		{"encoded surrogates are escaped", "\xed\xa0\x80", `\xed\xa0\x80`},
		{"what turns text around is escaped", "a\u202eb", `a\xe2\x80\xaeb`},
		{"separators of lines are escaped", "a\u2028b", `a\xe2\x80\xa8b`},
		{"a replacement character that was sent stays", "\ufffd", "\ufffd"},
	} {
		if got := printable(c.in, 32); got != c.want {
			t.Errorf("%s: %q becomes %q, not %q", c.name, c.in, got, c.want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"", "plain", `a\b`, "a\x00b", "\xff\xfe", "\u202e", strings.Repeat("鍵", 99), strings.Repeat("\\", 300), "\ufffd\xf0\x9f"} {
		f.Add(s, uint16(64))
	}
	f.Fuzz(func(t *testing.T, s string, limit uint16) {
		bound := 5 + int(limit)%2000
		got := printable(s, bound)
		if len(got) > bound {
			t.Errorf("%d bytes, beyond %d: %q", len(got), bound, got)
		}
		if !utf8.ValidString(got) {
			t.Errorf("invalid UTF-8: %q", got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("%U is not printable, in %q", r, got)
			}
		}
	})
}

// hostile are texts that a client might send in any field.
var hostile = map[string]string{
	"zero bytes":             "a\x00b",
	"nothing but zero bytes": "\x00\x00",
	"invalid UTF-8":          "\xff\xfe\xc3(",
	"a surrogate":            "\xed\xa0\x80",
	"controls":               "\x1b[31m\r\n\t\x7f",
	"backslashes":            strings.Repeat(`\`, 4000),
	"an escape":              `\x00\u0000\\`,
	"quotes and SQL":         `'; DROP TABLE vault.audit_log; --{"a",NULL}`,
	"array syntax":           `{"{}",NULL,\N}`,
	"huge text":              strings.Repeat("x", 1<<20),
	"huge zero bytes":        strings.Repeat("\x00", 1<<20),
	"wide characters":        strings.Repeat("\U0001F511", 5000),
	"unassigned characters":  strings.Repeat("\U000E0FFF", 100),
	"the word NULL":          "NULL",
	"white space":            " \u00a0\u3000 ",
}

func TestI2_NoTextOfAClientsIsRefusedByTheDatabase(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("hostile")
	for name, text := range hostile {
		request := "hostile: " + name
		err := trail.Append(t.Context(),
			Record{
				Actor: text, Action: text, SecretName: text, Outcome: text, RequestID: text, TraceID: text,
				Detail: []byte(text)[:min(len(text), maxDetailBytes)],
			}, // details are bounded by who fills them
			record(request))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if found := len(f.where(request)); found != 1 {
			t.Errorf("%s: the record beside it is there %d times", name, found)
		}
	}
	f.clean()
}

func TestRecord_WhatIsAbsentIsNull(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("nulls")
	must(t, trail.Append(t.Context(), Record{Actor: "anonymous", Action: "secret.read", Outcome: "denied", RequestID: "absent"}))
	must(t, trail.Append(t.Context(), Record{
		Actor: "anonymous", Action: "secret.read", Outcome: "denied", RequestID: "present",
		ClientIP: netip.MustParseAddr("fe80::1%eth0"), SecretName: "n", Version: -1, TraceID: "t", Detail: []byte{},
	}))
	must(t, trail.Append(t.Context(), Record{
		Actor: "anonymous", Action: "secret.read", Outcome: "denied", RequestID: "mapped", ClientIP: netip.MustParseAddr("::ffff:192.0.2.7"),
	}))
	for request, want := range map[string]string{
		"absent": "-|-|-|-|-", "present": `fe80::1|n|-1|t|\x`, "mapped": "192.0.2.7|-|-|-|-",
	} {
		got := pgtest.Query[string](t, f.db, `SELECT concat_ws('|', coalesce(abbrev(client_ip), '-'), coalesce(secret_name, '-'),
			coalesce(version::text, '-'), coalesce(trace_id, '-'), coalesce(detail::text, '-'))
			FROM vault.audit_log WHERE request_id = $1`, request)
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q is stored, not %q", request, got, want)
		}
	}
	f.clean()
}

func TestI10_ADetailThatIsTooLongIsRefusedAndNotCut(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.beating("long")
	fits, long := record("fits"), record("long")
	fits.Detail = bytes.Repeat([]byte("x"), maxDetailBytes)
	long.Detail = bytes.Repeat([]byte("x"), maxDetailBytes+1)
	must(t, trail.Append(t.Context(), fits))
	if err := trail.Append(t.Context(), long); err == nil || fault.KindOf(err) != fault.Internal {
		t.Errorf("appending a detail that is too long: %v", err)
	}
	err := trail.Change(t.Context(), func(ctx context.Context, tx *postgres.Tx) ([]Record, error) { return []Record{long}, nil })
	if err == nil || fault.KindOf(err) != fault.Internal {
		t.Errorf("changing with a detail that is too long: %v", err)
	}
	f.clean()
}

func TestI10_TimesNeverGoBackWithinAStream(t *testing.T) {
	t.Parallel()
	f := setup(t)
	key, err := f.keys.StreamKey(f.keyID(), f.vaultID)
	must(t, err)
	defer key.Release()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	rows, next := chain(key, "sealkeep/audit-record/v1", f.vaultID, f.vaultID, head{seq: 7, at: now}, now.Add(-time.Minute),
		[]Record{record("a"), record("b")})
	if !rows[0].At.Equal(now) || !rows[1].At.Equal(now) || next.seq != 9 || !next.at.Equal(now) {
		t.Errorf("records at %s and %s, head %+v, behind one at %s", rows[0].At, rows[1].At, next, now)
	}
	if string(rows[1].MAC) != string(next.mac[:]) || string(rows[0].MAC) == string(rows[1].MAC) {
		t.Error("the head is not the last record's mac")
	}
}
