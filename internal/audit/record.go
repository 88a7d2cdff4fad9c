package audit

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// Record says who tried what, on what, and how it ended. It never holds a value. Empty strings, a zero Version, an invalid
// ClientIP and a nil Detail are stored as NULL. Text is bounded and escaped before it is chained, so no text of a client's
// can make a record that the database refuses. Detail belongs to the Trail from the call on, whatever the call returns.
type Record struct {
	Actor      string     // at most 256 bytes: "token:NAME", "address:IP", "anonymous", "process:NAME", "offline:COMMAND"
	ClientIP   netip.Addr // of the client, if there is one
	Action     string     // at most 64 bytes, from the list in the vault package, or "audit.…"
	SecretName string     // at most 1024 bytes
	Version    int64
	Outcome    string // at most 64 bytes
	RequestID  string // at most 128 bytes
	TraceID    string // at most 64 bytes
	Detail     []byte // JSON, at most 64 KiB, without client-supplied text that isn't bounded
}

const maxDetailBytes = 64 << 10

// checkDetails refuses what wouldn't fit: evidence is never cut down to what has room. The error is of kind Internal; who
// fills a detail bounds what goes into it.
func checkDetails(records []Record) error {
	for i := range records {
		if len(records[i].Detail) > maxDetailBytes {
			return fault.Wrap(fault.Internal, errors.New("an audit record's detail is longer than 64 KiB"), "")
		}
	}
	return nil
}

// printable escapes what is not printable UTF-8 as \xNN, doubles backslashes so that the escape can't be imitated, and cuts
// what then exceeds limit bytes at a whole character or escape, marking the cut.
func printable(s string, limit int) string {
	clean := len(s) <= limit
	for i := 0; clean && i < len(s); i++ {
		clean = s[i] >= 0x20 && s[i] < 0x7f && s[i] != '\\'
	}
	if clean {
		return s
	}
	const cut = "[cut]"
	b := make([]byte, 0, min(len(s), limit)+len(cut))
	room := 0 // the length up to which b leaves room for the mark
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		var piece string
		switch {
		case r == '\\':
			piece = `\\`
		case r == utf8.RuneError && size <= 1, !unicode.IsPrint(r):
			for _, c := range []byte(s[i : i+size]) {
				piece += fmt.Sprintf(`\x%02x`, c)
			}
		default:
			piece = s[i : i+size]
		}
		if len(b)+len(piece) > limit {
			b = append(b[:room], cut...)
			break
		}
		b = append(b, piece...)
		if len(b) <= limit-len(cut) {
			room = len(b)
		}
		i += size
	}
	return string(b)
}

// opening holds the fixed fields of a stream's row, which its first mac covers.
type opening struct {
	streamID, vaultID, keyID uuid.UUID
	process, kind            string
	openedAt                 time.Time
	systemID                 string
	timeline                 int64
	predecessor              *uuid.UUID
	predecessorSeq           *int64
	predecessorMAC           []byte
}

// message is the canonical encoding that the opening's mac is taken over; docs/formats.md lists its fields.
func (o opening) message(dst []byte) []byte {
	dst = canon.Start(dst, canon.LabelAuditOpen)
	dst = canon.UUID(dst, o.streamID)
	dst = canon.UUID(dst, o.vaultID)
	dst = canon.Text(dst, o.process)
	dst = canon.Text(dst, o.kind)
	dst = canon.Time(dst, o.openedAt)
	dst = canon.Text(dst, o.systemID)
	dst = canon.Int(dst, o.timeline)
	dst = canon.NullableUUID(dst, (*[16]byte)(o.predecessor))
	dst = canon.NullableInt(dst, o.predecessorSeq)
	dst = canon.NullableBytes(dst, o.predecessorMAC)
	return canon.UUID(dst, o.keyID)
}

// recordMessage is the canonical encoding that a record's mac is taken over. label is canon.LabelAuditRecord, or
// canon.LabelAuditClose for the one record that ends a stream, so that neither can pass for the other.
func recordMessage(dst []byte, label string, streamID uuid.UUID, seq int64, previous []byte, keyID uuid.UUID, r *postgres.Record) []byte {
	dst = canon.Start(dst, label)
	dst = canon.UUID(dst, streamID)
	dst = canon.Int(dst, seq)
	dst = canon.Bytes(dst, previous)
	dst = canon.Time(dst, r.At)
	dst = canon.Text(dst, r.Actor)
	if r.ClientIP != nil {
		dst = canon.Addr(dst, *r.ClientIP)
	} else {
		dst = canon.Null(dst)
	}
	dst = canon.Text(dst, r.Action)
	dst = canon.NullableText(dst, r.SecretName)
	dst = canon.NullableInt(dst, r.Version)
	dst = canon.Text(dst, r.Outcome)
	dst = canon.Text(dst, r.RequestID)
	dst = canon.NullableText(dst, r.TraceID)
	dst = canon.NullableBytes(dst, r.Detail)
	return canon.UUID(dst, keyID)
}
