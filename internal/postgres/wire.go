package postgres

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// wire encodes the parameters of the append statement in PostgreSQL's binary format, and decodes its row, without going
// through the driver's values: this is what every audited read pays. The formats are those of the server's receive
// functions (src/backend/utils/adt: array_recv, inet_recv, tidrecv, timestamptz_recv), which have not changed since version 8.
// It belongs to one goroutine and its buffers are reused; they hold audit records, never plaintext.
type wire struct {
	buf    []byte
	ends   []int // where each parameter ends in buf
	values [][]byte
	binary [1]int16 // the one format code, for parameters and results alike

	secrets, versions []lying // what the result says
	stale             []int
}

// maxWireKept is how long a buffer may be, in bytes, to be used again.
const maxWireKept = 1 << 20

// epochMicros is 2000-01-01 UTC, from which PostgreSQL counts, in microseconds since 1970.
const epochMicros = 946_684_800_000_000

// append encodes all parameters of a, in the statement's order.
func (w *wire) append(a *Append) {
	if cap(w.buf) > maxWireKept {
		w.buf = nil
	}
	w.buf, w.ends, w.binary[0] = w.buf[:0], w.ends[:0], pgtype.BinaryFormatCode
	last := &a.Records[len(a.Records)-1]

	w.raw(a.StreamID[:])
	w.int64(a.OldSeq)
	w.raw(a.OldMAC)
	w.raw(last.MAC)
	w.int64(micros(last.At))
	w.raw(a.KeyID[:])
	array(w, pgtype.TimestamptzOID, a.Records, func(w *wire, r *Record) { w.int64Element(micros(r.At)) })
	array(w, pgtype.TextOID, a.Records, func(w *wire, r *Record) { w.textElement(r.Actor) })
	array(w, pgtype.InetOID, a.Records, func(w *wire, r *Record) { w.addressElement(r.ClientIP) })
	array(w, pgtype.TextOID, a.Records, func(w *wire, r *Record) { w.textElement(r.Action) })
	array(w, pgtype.TextOID, a.Records, func(w *wire, r *Record) { w.optionalElement(r.SecretName) })
	array(w, pgtype.Int8OID, a.Records, func(w *wire, r *Record) {
		if r.Version == nil {
			w.nullElement()
		} else {
			w.int64Element(*r.Version)
		}
	})
	array(w, pgtype.TextOID, a.Records, func(w *wire, r *Record) { w.textElement(r.Outcome) })
	array(w, pgtype.TextOID, a.Records, func(w *wire, r *Record) { w.textElement(r.RequestID) })
	// Most records have neither; unnest fills up a shorter array with NULL.
	if slices.ContainsFunc(a.Records, func(r Record) bool { return r.TraceID != nil }) {
		array(w, pgtype.TextOID, a.Records, func(w *wire, r *Record) { w.optionalElement(r.TraceID) })
	} else {
		w.empty(pgtype.TextOID)
	}
	if slices.ContainsFunc(a.Records, func(r Record) bool { return r.Detail != nil }) {
		array(w, pgtype.ByteaOID, a.Records, func(w *wire, r *Record) {
			if r.Detail == nil {
				w.nullElement()
			} else {
				w.bytesElement(r.Detail)
			}
		})
	} else {
		w.empty(pgtype.ByteaOID)
	}
	array(w, pgtype.ByteaOID, a.Records, func(w *wire, r *Record) { w.bytesElement(r.MAC) })
	if len(a.Held) == 0 {
		return
	}
	array(w, pgtype.TIDOID, a.Held, func(w *wire, h *Held) { w.placeElement(h.Secret) })
	array(w, pgtype.TIDOID, a.Held, func(w *wire, h *Held) { w.placeElement(h.Version) })
	w.counted(a.Held)
}

// counted encodes the ids of the secrets whose valid versions are to be counted, if there are any.
func (w *wire) counted(held []Held) {
	n := 0
	for i := range held {
		if held[i].Valid > 0 {
			n++
		}
	}
	if n == 0 {
		return
	}
	w.header(pgtype.UUIDOID, n)
	for i := range held {
		if held[i].Valid > 0 {
			w.bytesElement(held[i].SecretID[:])
		}
	}
	w.ends = append(w.ends, len(w.buf))
}

// params gives the parameters, valid until the next append.
func (w *wire) params() [][]byte {
	w.values = w.values[:0]
	from := 0
	for _, end := range w.ends {
		w.values = append(w.values, w.buf[from:end:end])
		from = end
	}
	return w.values
}

func (w *wire) raw(b []byte) {
	w.buf = append(w.buf, b...)
	w.ends = append(w.ends, len(w.buf))
}

func (w *wire) int64(n int64) {
	w.buf = binary.BigEndian.AppendUint64(w.buf, uint64(n)) //nolint:gosec // the same 64 bits
	w.ends = append(w.ends, len(w.buf))
}

// array encodes a one-dimensional array with lower bound 1, one element of each item.
func array[T any](w *wire, element uint32, items []T, encode func(*wire, *T)) {
	w.header(element, len(items))
	for i := range items {
		encode(w, &items[i])
	}
	w.ends = append(w.ends, len(w.buf))
}

func (w *wire) header(element uint32, items int) {
	const dimensions, mayHoldNulls, lowerBound = 1, 1, 1
	for _, n := range [...]uint32{dimensions, mayHoldNulls, element, uint32(items), lowerBound} { //nolint:gosec // at most 4096
		w.buf = binary.BigEndian.AppendUint32(w.buf, n)
	}
}

// empty encodes an array without elements.
func (w *wire) empty(element uint32) {
	for _, n := range [...]uint32{0, 0, element} { // no dimensions, no nulls
		w.buf = binary.BigEndian.AppendUint32(w.buf, n)
	}
	w.ends = append(w.ends, len(w.buf))
}

func (w *wire) length(n int) { w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(n)) } //nolint:gosec // at most 64 KiB

func (w *wire) nullElement() { w.buf = binary.BigEndian.AppendUint32(w.buf, 0xffff_ffff) }

func (w *wire) bytesElement(b []byte) {
	w.length(len(b))
	w.buf = append(w.buf, b...)
}

func (w *wire) textElement(s string) {
	w.length(len(s))
	w.buf = append(w.buf, s...)
}

func (w *wire) optionalElement(s *string) {
	if s == nil {
		w.nullElement()
		return
	}
	w.textElement(*s)
}

func (w *wire) int64Element(n int64) {
	w.length(8)
	w.buf = binary.BigEndian.AppendUint64(w.buf, uint64(n)) //nolint:gosec // the same 64 bits
}

func (w *wire) placeElement(t Tuple) {
	w.length(6)
	w.buf = binary.BigEndian.AppendUint32(w.buf, t.Block)
	w.buf = binary.BigEndian.AppendUint16(w.buf, t.Offset)
}

func micros(t time.Time) int64 { return t.UnixMicro() - epochMicros }

func (w *wire) addressElement(a *netip.Addr) {
	if a == nil {
		w.nullElement()
		return
	}
	const inetFamily4, inetFamily6, notCIDR = 2, 3, 0
	if a.Is4() {
		raw := a.As4()
		w.length(4 + len(raw))
		w.buf = append(w.buf, inetFamily4, 32, notCIDR, byte(len(raw)))
		w.buf = append(w.buf, raw[:]...)
		return
	}
	raw := a.As16()
	w.length(4 + len(raw))
	w.buf = append(w.buf, inetFamily6, 128, notCIDR, byte(len(raw)))
	w.buf = append(w.buf, raw[:]...)
}

var errUnexpectedRow = errors.New("the append's row is not as it should be")

// result decodes the statement's row, holds it against what is held, and returns how many records were inserted.
func (w *wire) result(row [][]byte, held []Held, into *Appended) (count int64, err error) {
	if len(row) < 3 || len(row[0]) != 8 || len(row[1]) != 8 || len(row[2]) != 8 {
		return 0, errUnexpectedRow // an epoch that is NULL among others: the vault's row is gone
	}
	into.DatabaseTime = time.UnixMicro(getInt64(row[1]) + epochMicros).UTC()
	into.Epoch = getInt64(row[2])
	if len(held) > 0 {
		if into.Stale, err = w.judge(row[3:], held); err != nil {
			return 0, err
		}
	}
	return getInt64(row[0]), nil
}

func getInt64(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) } //nolint:gosec // the same 64 bits
