package canon

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"
)

// field is one parsed field; value is one of nil, []byte, string, int64, time.Time, [16]byte, netip.Addr.
type field struct{ value any }

var errMalformed = errors.New("malformed")

// parse reads an encoding strictly. Only tests need it: the product recomputes encodings and compares.
func parse(b []byte) (label string, fields []field, err error) {
	end := bytes.IndexByte(b, 0)
	if end < 1 {
		return "", nil, errMalformed
	}
	for _, c := range b[:end] {
		if c < 0x21 || c > 0x7e {
			return "", nil, errMalformed
		}
	}
	label, b = string(b[:end]), b[end+1:]
	for len(b) > 0 {
		if len(b) < 5 {
			return "", nil, errMalformed
		}
		n := uint64(binary.BigEndian.Uint32(b[1:5]))
		if n > uint64(len(b)-5) {
			return "", nil, errMalformed
		}
		f, err := parseField(b[0], b[5:5+n])
		if err != nil {
			return "", nil, err
		}
		fields, b = append(fields, f), b[5+n:]
	}
	return label, fields, nil
}

func parseField(typ byte, v []byte) (field, error) {
	switch {
	case typ == typeNull && len(v) == 0:
		return field{}, nil
	case typ == typeBytes:
		return field{v}, nil
	case typ == typeText:
		return field{string(v)}, nil
	case typ == typeInt && len(v) == 8:
		return field{int64(binary.BigEndian.Uint64(v))}, nil
	case typ == typeTime && len(v) == 8:
		return parseTime(int64(binary.BigEndian.Uint64(v)))
	case typ == typeUUID && len(v) == 16:
		return field{[16]byte(v)}, nil
	case typ == typeAddr:
		a, ok := netip.AddrFromSlice(v)
		if ok && !a.Is4In6() {
			return field{a}, nil
		}
	}
	return field{}, errMalformed
}

func parseTime(micros int64) (field, error) {
	t := time.UnixMicro(micros)
	if t.UnixMicro() != micros { // beyond what time.Time says of itself
		return field{}, errMalformed
	}
	return field{t}, nil
}

func (f field) marshal(dst []byte) []byte {
	switch v := f.value.(type) {
	case nil:
		return Null(dst)
	case []byte:
		return Bytes(dst, v)
	case string:
		return Text(dst, v)
	case int64:
		return Int(dst, v)
	case time.Time:
		return Time(dst, v)
	case [16]byte:
		return UUID(dst, v)
	case netip.Addr:
		return Addr(dst, v)
	}
	panic("not a field")
}

func marshal(label string, fields []field) []byte {
	out := Start(nil, label)
	for _, f := range fields {
		out = f.marshal(out)
	}
	return out
}

// FuzzParseMarshalIdentity holds that what parses has exactly one encoding, its own: there are no two ways to write
// one thing, and no two things that are written one way.
func FuzzParseMarshalIdentity(f *testing.F) {
	for _, v := range vectors(f) {
		b := marshal(v.Label, v.parsed(f))
		f.Add(b)
		f.Add(b[:len(b)-1])
		f.Add(append(b, 0))
	}
	f.Add([]byte(nil))
	f.Add([]byte("label without end"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("l\x00\x00\x00\x00\x00\x01\xff"))
	f.Add([]byte("l\x00\x02\xff\xff\xff\xff"))
	f.Add([]byte("l\x00\x06\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		label, fields, err := parse(b)
		if err != nil {
			return
		}
		if again := marshal(label, fields); !bytes.Equal(again, b) {
			t.Errorf("% x parses, and marshals to % x", b, again)
		}
	})
}

// FuzzMarshalParseIdentity holds that every value survives, whatever it is.
func FuzzMarshalParseIdentity(f *testing.F) {
	f.Add([]byte(nil), "", int64(0), int64(0), []byte(nil))
	f.Add([]byte{0}, "a\x00b", int64(-1), int64(-1), []byte{192, 0, 2, 1})
	f.Add([]byte("x"), "grüße", int64(math.MaxInt64), int64(math.MaxInt64), make([]byte, 16))
	f.Add([]byte("x"), "\xff\xfe", int64(math.MinInt64), int64(1772368496789012), netip.MustParseAddr("2001:db8::1").AsSlice())
	f.Fuzz(func(t *testing.T, b []byte, s string, i, micros int64, addr []byte) {
		tm := time.UnixMicro(micros)
		if tm.UnixMicro() != micros {
			return
		}
		var u [16]byte
		copy(u[:], b)
		a, _ := netip.AddrFromSlice(addr)
		out := Addr(UUID(Time(Int(Text(Bytes(Start(nil, LabelAAD), b), s), i), tm), u), a)
		label, fields, err := parse(out)
		if err != nil || label != LabelAAD || len(fields) != 6 {
			t.Fatalf("%q, %d fields, %v", label, len(fields), err)
		}
		var wantAddr any
		if a.IsValid() {
			wantAddr = a.Unmap()
		}
		if !bytes.Equal(fields[0].value.([]byte), b) || fields[1].value != s || fields[2].value != i ||
			!fields[3].value.(time.Time).Equal(tm) || fields[4].value != u || fields[5].value != wantAddr {
			t.Errorf("came back as %v", fields)
		}
	})
}
