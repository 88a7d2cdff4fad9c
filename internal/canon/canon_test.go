package canon

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

type vector struct {
	Name, Label, Encoding string
	Fields                []struct {
		Type  string
		Value *string
	}
}

func vectors(tb testing.TB) []vector {
	tb.Helper()
	raw, err := os.ReadFile("../../testdata/formats/canon.json")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct{ Cases []vector }
	if err := json.Unmarshal(raw, &file); err != nil {
		tb.Fatal(err)
	}
	if len(file.Cases) == 0 {
		tb.Fatal("no vectors")
	}
	return file.Cases
}

func (v vector) parsed(tb testing.TB) []field {
	tb.Helper()
	fields := make([]field, 0, len(v.Fields))
	for _, f := range v.Fields {
		var value any
		var err error
		if f.Value != nil {
			switch f.Type {
			case "bytes":
				value, err = hex.DecodeString(*f.Value)
			case "text":
				value = *f.Value
			case "int":
				value, err = strconv.ParseInt(*f.Value, 10, 64)
			case "time":
				value, err = time.Parse(time.RFC3339Nano, *f.Value)
			case "uuid":
				value = [16]byte(uuid.MustParse(*f.Value))
			case "addr":
				value, err = netip.ParseAddr(*f.Value)
			default:
				tb.Fatalf("%s: unknown type %q", v.Name, f.Type)
			}
		}
		if err != nil {
			tb.Fatalf("%s: %v", v.Name, err)
		}
		fields = append(fields, field{value})
	}
	return fields
}

func TestVectors(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, v := range vectors(t) {
		got := hex.EncodeToString(marshal(v.Label, v.parsed(t)))
		if got != v.Encoding {
			t.Errorf("%s:\n got %s\nwant %s", v.Name, got, v.Encoding)
		}
		if _, _, err := parse(marshal(v.Label, v.parsed(t))); err != nil {
			t.Errorf("%s does not parse", v.Name)
		}
		seen[got] = v.Name
	}
	// These mean the same, so they are written the same; nothing else is.
	same := [][2]string{
		{"time with microseconds", "time in another zone"},
		{"time with microseconds", "time below a microsecond is cut off"},
		{"IPv4 address", "IPv4 mapped into IPv6"},
		{"null", "no address"},
	}
	if want := len(vectors(t)) - len(same); len(seen) != want {
		t.Errorf("%d distinct encodings, want %d", len(seen), want)
	}
}

func TestI5_FieldsNeverRunIntoEachOther(t *testing.T) {
	t.Parallel()
	s := "x"
	i := int64(0)
	distinct := map[string]string{}
	for name, b := range map[string][]byte{
		"nothing":              Start(nil, "l"),
		"NULL":                 Null(Start(nil, "l")),
		"two NULLs":            Null(Null(Start(nil, "l"))),
		"empty bytes":          Bytes(Start(nil, "l"), nil),
		"empty text":           Text(Start(nil, "l"), ""),
		"text ab, c":           Text(Text(Start(nil, "l"), "ab"), "c"),
		"text a, bc":           Text(Text(Start(nil, "l"), "a"), "bc"),
		"text abc":             Text(Start(nil, "l"), "abc"),
		"bytes abc":            Bytes(Start(nil, "l"), []byte("abc")),
		"int 0":                Int(Start(nil, "l"), 0),
		"the epoch":            Time(Start(nil, "l"), time.Unix(0, 0)),
		"8 zero bytes":         Bytes(Start(nil, "l"), make([]byte, 8)),
		"16 zero bytes":        Bytes(Start(nil, "l"), make([]byte, 16)),
		"zero UUID":            UUID(Start(nil, "l"), [16]byte{}),
		"::":                   Addr(Start(nil, "l"), netip.IPv6Unspecified()),
		"0.0.0.0":              Addr(Start(nil, "l"), netip.IPv4Unspecified()),
		"another label":        Start(nil, "m"),
		"a longer label":       Start(nil, "ll"),
		"text that is a field": Text(Start(nil, "l"), string(Text(nil, "abc"))),
		"present, then NULL":   NullableInt(NullableText(Start(nil, "l"), &s), nil),
		"NULL, then present":   NullableInt(NullableText(Start(nil, "l"), nil), &i),
	} {
		if other, dup := distinct[string(b)]; dup {
			t.Errorf("%s and %s have one encoding", name, other)
		}
		distinct[string(b)] = name
	}
}

func TestNullable_NilIsNullAndAPointerIsItsValue(t *testing.T) {
	t.Parallel()
	null := Null(nil)
	s, i, tm, u := "text", int64(7), time.UnixMicro(5), [16]byte{1}
	for name, c := range map[string]struct{ isNil, isSet, plain []byte }{
		"text":  {NullableText(nil, nil), NullableText(nil, &s), Text(nil, s)},
		"int":   {NullableInt(nil, nil), NullableInt(nil, &i), Int(nil, i)},
		"time":  {NullableTime(nil, nil), NullableTime(nil, &tm), Time(nil, tm)},
		"uuid":  {NullableUUID(nil, nil), NullableUUID(nil, &u), UUID(nil, u)},
		"bytes": {NullableBytes(nil, nil), NullableBytes(nil, []byte{}), Bytes(nil, nil)},
		"addr":  {Addr(nil, netip.Addr{}), Addr(nil, netip.IPv6Unspecified()), Addr(nil, netip.IPv6Unspecified())},
	} {
		if !bytes.Equal(c.isNil, null) {
			t.Errorf("%s: nil is % x", name, c.isNil)
		}
		if !bytes.Equal(c.isSet, c.plain) || bytes.Equal(c.isSet, null) {
			t.Errorf("%s: a set one is % x, want % x", name, c.isSet, c.plain)
		}
	}
}

func TestStart_RefusesBadLabels(t *testing.T) {
	t.Parallel()
	for _, label := range []string{"", "a b", "a\x00b", "a\n", "é", "\x7f", LabelRow("secret versions")} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("label %q was taken", label)
				}
			}()
			Start(nil, label)
		}()
	}
}

func TestLabels_AreDistinctAndWellFormed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, label := range []string{
		LabelAAD, LabelAuthz, LabelAuditOpen, LabelAuditRecord, LabelAuditClose, LabelIdempotency, LabelWrappedTwice,
		LabelRow("secrets"), LabelRow("secret_versions"),
	} {
		if seen[label] || !strings.HasPrefix(label, "sealkeep/") || !strings.HasSuffix(label, "/v1") {
			t.Errorf("label %q", label)
		}
		seen[label] = true
		if got := Start([]byte("before"), label); string(got) != "before"+label+"\x00" {
			t.Errorf("%q starts as %q", label, got)
		}
	}
}

func TestAppend_DoesNotAllocateWithRoom(t *testing.T) { // not parallel: AllocsPerRun counts the whole process
	buf := make([]byte, 0, 512)
	text, number := "payments/db", int64(3)
	at, addr := time.UnixMicro(1), netip.MustParseAddr("192.0.2.1")
	if n := testing.AllocsPerRun(100, func() {
		b := Start(buf, LabelAuditRecord)
		b = NullableInt(NullableText(Addr(Time(Int(Bytes(UUID(b, [16]byte{}), buf), 1), at), addr), &text), &number)
		_ = Null(b)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
