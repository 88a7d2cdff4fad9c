package secret

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

func TestMaterialEncoding(t *testing.T) {
	t.Parallel()

	for claim, c := range map[string]struct {
		m   Material
		hex string
	}{
		"opaque text":       {opaque("abc"), "0101" + "00000003616263"},
		"opaque binary":     {binaryOf("\x00\xff"), "0102" + "0000000200ff"},
		"userpass":          {userpass("bob", "pw"), "0103" + "00000003626f62" + "000000027077"},
		"an empty value":    {opaque(""), "0101" + "00000000"},
		"a missing value":   {Material{Format: Opaque}, "0101" + "00000000"},
		"an empty userpass": {userpass("", ""), "0103" + "00000000" + "00000000"},
	} {
		t.Run(claim+" has the bytes that are documented, and comes back", func(t *testing.T) {
			t.Parallel()
			encoded := c.m.Encode()
			if got := hex.EncodeToString(encoded.Reveal()); got != c.hex {
				t.Errorf("got %s, want %s", got, c.hex)
			}
			back, err := DecodeMaterial(encoded)
			if err != nil || !back.Equal(c.m) || back.Format != c.m.Format || back.Binary != c.m.Binary {
				t.Errorf("came back as %s, %v", back.Format, err)
			}
		})
	}

	t.Run("64 KiB of every byte value come back unchanged", func(t *testing.T) {
		t.Parallel()
		all := make([]byte, MaxValueBytes)
		for i := range all {
			all[i] = byte(i ^ i>>8)
		}
		m := Material{Format: Opaque, Value: sensitive.Copy(all), Binary: true}
		back, err := DecodeMaterial(m.Encode())
		if err != nil || !bytes.Equal(back.Value.Reveal(), all) {
			t.Errorf("changed, %v", err)
		}
	})

	t.Run("what is decoded has its own lifetime", func(t *testing.T) {
		t.Parallel()
		m := userpass("user", "password")
		encoded := m.Encode()
		m.Release()
		back, err := DecodeMaterial(encoded)
		encoded.Release()
		if err != nil || !back.Equal(userpass("user", "password")) {
			t.Errorf("lost with the encoding, %v", err)
		}
	})

	t.Run("what could not be decoded again is not encoded", func(t *testing.T) {
		t.Parallel()
		released := opaque("v")
		released.Release()
		for claim, m := range map[string]Material{
			"no format": {}, "an unknown format": {Format: "pem"}, "a binary userpass": {Format: Userpass, Binary: true}, "released": released,
		} {
			if !panics(func() { m.Encode() }) {
				t.Errorf("%s is encoded", claim)
			}
		}
	})
}

var kept sensitive.Bytes // so that no allocation is optimised away

// It counts allocations, which the testing package forbids beside parallel tests.
func TestI1_EncodingOutgrowsNoBuffer(t *testing.T) {
	m := userpass("user", strings.Repeat("p", 1000))
	size := m.Encode().Len()
	source := make([]byte, size)
	copied := testing.AllocsPerRun(100, func() { kept = sensitive.Copy(source) })
	// A buffer that was outgrown would stay behind with plaintext in it, and would be one allocation more.
	if encoded := testing.AllocsPerRun(100, func() { kept = m.Encode() }); encoded > copied {
		t.Errorf("%v allocations, and %v for copying as much", encoded, copied)
	}
}

func TestI4_DecodeMaterialRefuses(t *testing.T) {
	t.Parallel()
	for claim, encoded := range map[string]string{
		"nothing":                              "",
		"a version alone":                      "01",
		"a shape without fields":               "0101",
		"version 0":                            "0001" + "0000000161",
		"version 2":                            "0201" + "0000000161",
		"shape 0":                              "0100" + "0000000161",
		"shape 4":                              "0104" + "0000000161",
		"a cut length":                         "0101" + "000000",
		"a length beyond the end":              "0101" + "0000000261",
		"the longest length":                   "0101" + "ffffffff61",
		"a byte too many":                      "0101" + "000000016100",
		"an opaque with two fields":            "0101" + "0000000161" + "0000000162",
		"a binary with two fields":             "0102" + "0000000161" + "0000000162",
		"a userpass with one field":            "0103" + "0000000161",
		"a userpass with three fields":         "0103" + "0000000161" + "0000000162" + "0000000163",
		"a userpass with a cut second field":   "0103" + "0000000161" + "00000002ff",
		"a userpass with a third, empty field": "0103" + "0000000161" + "0000000162" + "00000000",
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			b, err := hex.DecodeString(encoded)
			if err != nil {
				t.Fatal(err)
			}
			_, err = DecodeMaterial(sensitive.Take(b))
			wantFault(t, err, fault.Internal)
			if !errors.Is(err, ErrMalformedMaterial) {
				t.Errorf("not ErrMalformedMaterial: %v", err)
			}
		})
	}
	t.Run("what was released, and the zero value", func(t *testing.T) {
		t.Parallel()
		encoded := opaque("v").Encode()
		encoded.Release()
		for _, b := range []sensitive.Bytes{encoded, {}} {
			if _, err := DecodeMaterial(b); !errors.Is(err, ErrMalformedMaterial) {
				t.Errorf("got %v", err)
			}
		}
	})
}

func FuzzDecodeMaterial(f *testing.F) {
	for _, m := range []Material{opaque(""), opaque("value"), binaryOf("\x00\xff"), userpass("user", "password"), userpass("", "")} {
		f.Add(m.Encode().Reveal())
	}
	for _, s := range []string{"", "\x01", "\x01\x01", "\x01\x01\xff\xff\xff\xffa", "\x01\x03\x00\x00\x00\x01a", "\x01\x01\x00\x00\x00\x01aa", "\x02\x01\x00\x00\x00\x01a"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMaterial(sensitive.Copy(b))
		if err != nil {
			if !errors.Is(err, ErrMalformedMaterial) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		// One material, one encoding.
		if again := m.Encode().Reveal(); !bytes.Equal(again, b) {
			t.Fatalf("%x is encoded as %x", b, again)
		}
	})
}
