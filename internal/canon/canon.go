// Package canon is the one canonical encoding of everything that is MACed, hashed or used as additional data.
//
// An encoding is a label in ASCII that names what follows and its version, a zero byte, and then the fields in the order
// that docs/formats.md lists: each a type byte, the length as 32 bits big-endian, and the bytes. Every function appends
// to dst and returns the extended slice, as the built-in append does; none allocates if dst has room.
//
// Invariants:
//   - Two different (label, fields) never have one encoding: each field says its type and length, the label can't hold
//     the zero byte that ends it, and NULL is a type of its own, apart from every empty value.
//   - One (label, fields) has one encoding: no field has two forms of one value. Times are whole microseconds, as
//     PostgreSQL keeps them, and an IPv4 address has 4 bytes even if it came mapped into IPv6.
//   - I5, I6, I10 rest on both: a MAC or tag over an encoding is a MAC or tag over exactly these fields in this use.
package canon

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"
)

// The labels. Each names one use and its version, so that bytes MACed for one are never valid for another.
const (
	LabelAAD         = "sealkeep/aad/v1"
	LabelAuthz       = "sealkeep/authz/v1"
	LabelAuditOpen   = "sealkeep/audit-open/v1"
	LabelAuditRecord = "sealkeep/audit-record/v1"
	LabelAuditClose  = "sealkeep/audit-close/v1"
	LabelIdempotency = "sealkeep/idempotency/v1"

	LabelPermission   = "sealkeep/permission/v1"
	LabelWrappedTwice = "sealkeep/wrapped-twice/v1"
)

// LabelRow returns the label under which the rows of a table are MACed.
func LabelRow(table string) string { return "sealkeep/row/" + table + "/v1" }

// The type bytes.
const (
	typeNull byte = iota
	typeBytes
	typeText
	typeInt
	typeTime
	typeUUID
	typeAddr
)

// Start appends the label and the zero byte that ends it. Labels are constants of the code: one that is empty or holds
// a byte outside 0x21 to 0x7e is a programming error and panics.
func Start(dst []byte, label string) []byte {
	if label == "" {
		panic("canon: empty label")
	}
	for i := range len(label) {
		if label[i] < 0x21 || label[i] > 0x7e {
			panic("canon: label holds a byte outside 0x21 to 0x7e")
		}
	}
	return append(append(dst, label...), 0)
}

// Null appends a NULL field: type 0, no bytes.
func Null(dst []byte) []byte { return header(dst, typeNull, 0) }

// Bytes appends b as type 1. A nil b is empty, as an empty one is; [NullableBytes] tells them apart.
func Bytes(dst, b []byte) []byte { return append(header(dst, typeBytes, len(b)), b...) }

// Text appends s as type 2, byte for byte as it is stored: UTF-8 that is neither checked nor normalised here.
func Text(dst []byte, s string) []byte { return append(header(dst, typeText, len(s)), s...) }

// Int appends i as type 3: 8 bytes big-endian, two's complement.
func Int(dst []byte, i int64) []byte { return int64Field(dst, typeInt, i) }

// Time appends t as type 4: the microseconds since 1970-01-01T00:00:00Z as 8 bytes big-endian, two's complement. What is
// below a microsecond is cut off, toward the past; the zone and the monotonic reading don't count. The years are those
// of time.Time.UnixMicro, -290307 to 294246.
func Time(dst []byte, t time.Time) []byte { return int64Field(dst, typeTime, t.UnixMicro()) }

// UUID appends u as type 5: its 16 bytes.
func UUID(dst []byte, u [16]byte) []byte { return append(header(dst, typeUUID, len(u)), u[:]...) }

// Addr appends a as type 6: 4 bytes for IPv4, also when mapped into IPv6, 16 for IPv6, without its zone. The invalid
// address, netip's zero value, is NULL.
func Addr(dst []byte, a netip.Addr) []byte {
	a = a.Unmap()
	switch {
	case a.Is4():
		b := a.As4()
		return append(header(dst, typeAddr, len(b)), b[:]...)
	case a.Is6():
		b := a.As16()
		return append(header(dst, typeAddr, len(b)), b[:]...)
	default:
		return Null(dst)
	}
}

// NullableBytes appends b, or NULL for nil.
func NullableBytes(dst, b []byte) []byte {
	if b == nil {
		return Null(dst)
	}
	return Bytes(dst, b)
}

// NullableText appends *s, or NULL for nil.
func NullableText(dst []byte, s *string) []byte {
	if s == nil {
		return Null(dst)
	}
	return Text(dst, *s)
}

// NullableInt appends *i, or NULL for nil.
func NullableInt(dst []byte, i *int64) []byte {
	if i == nil {
		return Null(dst)
	}
	return Int(dst, *i)
}

// NullableTime appends *t, or NULL for nil.
func NullableTime(dst []byte, t *time.Time) []byte {
	if t == nil {
		return Null(dst)
	}
	return Time(dst, *t)
}

// NullableUUID appends *u, or NULL for nil.
func NullableUUID(dst []byte, u *[16]byte) []byte {
	if u == nil {
		return Null(dst)
	}
	return UUID(dst, *u)
}

func int64Field(dst []byte, typ byte, i int64) []byte {
	return binary.BigEndian.AppendUint64(header(dst, typ, 8), uint64(i)) //nolint:gosec // the bits are meant as they are
}

func header(dst []byte, typ byte, length int) []byte {
	if int64(length) > math.MaxUint32 {
		// Nothing in this product comes near 4 GiB; cutting the length instead would make two inputs one.
		panic("canon: field of 4 GiB or more")
	}
	return binary.BigEndian.AppendUint32(append(dst, typ), uint32(length)) //nolint:gosec // checked above
}
