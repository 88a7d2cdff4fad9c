package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

func opaque(value string) Material {
	return Material{Format: Opaque, Value: sensitive.CopyString(value)}
}

func binaryOf(value string) Material {
	return Material{Format: Opaque, Value: sensitive.CopyString(value), Binary: true}
}

func userpass(user, password string) Material {
	return Material{Format: Userpass, Username: sensitive.CopyString(user), Value: sensitive.CopyString(password)}
}

func TestMaterialValidate(t *testing.T) {
	t.Parallel()

	long := strings.Repeat("x", MaxValueBytes)
	for claim, m := range map[string]Material{
		"a value of one byte":                      opaque("v"),
		"a value of 64 KiB":                        opaque(long),
		"a value with line breaks and other signs": opaque("-----BEGIN\n\tKEY\r\n\x1b\u2028é"),
		"binary of any bytes":                      binaryOf("\x00\xff\xfe"),
		"binary of 64 KiB":                         binaryOf(strings.Repeat("\x00", MaxValueBytes)),
		"a user and a password":                    userpass("u", "p"),
		"a user of 1024 bytes":                     userpass(strings.Repeat("u", 1024), long),
		"a user beyond ASCII":                      userpass("müller@例え", "pässwörd\n"),
	} {
		t.Run("accepts "+claim, func(t *testing.T) {
			t.Parallel()
			if err := m.Validate(); err != nil {
				t.Error(err)
			}
		})
	}

	for claim, c := range map[string]struct {
		m    Material
		says string
	}{
		"the zero value":                   {Material{}, "format must be"},
		"an unknown format":                {Material{Format: "pem", Value: sensitive.CopyString("v")}, "format must be"},
		"no value":                         {Material{Format: Opaque}, "value must be 1 to 65536 bytes"},
		"an empty value":                   {opaque(""), "value must be 1 to 65536 bytes"},
		"an empty binary value":            {binaryOf(""), "value must be 1 to 65536 bytes"},
		"a value of 64 KiB and a byte":     {opaque(long + "x"), "value must be 1 to 65536 bytes"},
		"a binary of 64 KiB and a byte":    {binaryOf(long + "x"), "value must be 1 to 65536 bytes"},
		"text with NUL":                    {opaque("a\x00b"), "send value_base64"},
		"text that is not UTF-8":           {opaque("a\xffb"), "send value_base64"},
		"an opaque secret with a user":     {Material{Format: Opaque, Username: sensitive.CopyString("u"), Value: sensitive.CopyString("v")}, "no username"},
		"no user":                          {Material{Format: Userpass, Value: sensitive.CopyString("p")}, "username must be 1 to 1024 bytes"},
		"an empty user":                    {userpass("", "p"), "username must be 1 to 1024 bytes"},
		"a user of 1025 bytes":             {userpass(strings.Repeat("u", 1025), "p"), "username must be 1 to 1024 bytes"},
		"a user with a line break":         {userpass("u\n", "p"), "without control characters"},
		"a user with NUL":                  {userpass("u\x00", "p"), "without control characters"},
		"a user with DEL":                  {userpass("u\x7f", "p"), "without control characters"},
		"a user with a C1 control":         {userpass("u\u0085", "p"), "without control characters"},
		"a user that is not UTF-8":         {userpass("u\xff", "p"), "username must be UTF-8"},
		"no password":                      {Material{Format: Userpass, Username: sensitive.CopyString("u")}, "password must be 1 to 65536 bytes"},
		"a password of 64 KiB and a byte":  {userpass("u", long+"x"), "password must be 1 to 65536 bytes"},
		"a password with NUL":              {userpass("u", "p\x00"), "password must be UTF-8"},
		"a password that is not UTF-8":     {userpass("u", "p\xff"), "password must be UTF-8"},
		"a userpass secret sent as base64": {Material{Format: Userpass, Username: sensitive.CopyString("u"), Value: sensitive.CopyString("p"), Binary: true}, "value_base64 is for opaque"},
	} {
		t.Run("refuses "+claim, func(t *testing.T) {
			t.Parallel()
			if message := wantFault(t, c.m.Validate(), fault.Invalid); !strings.Contains(message, c.says) {
				t.Errorf("%q is not in: %s", c.says, message)
			}
		})
	}

	t.Run("refuses what was released", func(t *testing.T) {
		t.Parallel()
		m := userpass("u", "p")
		m.Release()
		wantFault(t, m.Validate(), fault.Invalid)
	})
}

func TestI1_MaterialNeverPrints(t *testing.T) {
	t.Parallel()
	const canary = "hunter2canary"
	m := userpass(canary, canary)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if text := fmt.Sprintf(verb, m); strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
			t.Errorf("%s prints it: %s", verb, text)
		}
	}
	for _, bad := range []Material{
		opaque(canary + "\x00"), opaque(canary + "\xff"), userpass(canary+"\n", canary), userpass(canary, canary+"\x00"),
		opaque(canary + strings.Repeat("x", MaxValueBytes)),
	} {
		if err := bad.Validate(); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("Validate: %v", err)
		}
	}
}

func TestI12_MaterialEqual(t *testing.T) {
	t.Parallel()

	t.Run("it tells same from different", func(t *testing.T) {
		t.Parallel()
		all := func() []Material {
			return []Material{
				opaque("a"), opaque("b"), opaque("aa"), opaque(""), binaryOf("a"), binaryOf("b"),
				userpass("a", "b"), userpass("b", "a"), userpass("ab", ""), userpass("", "ab"), userpass("a", "bb"), userpass("", "a"),
			}
		}
		for i, a := range all() {
			for j, b := range all() {
				if got := a.Equal(b); got != (i == j) {
					t.Errorf("number %d and number %d: %v", i, j, got)
				}
			}
		}
	})

	t.Run("material of no known shape equals nothing", func(t *testing.T) {
		t.Parallel()
		for _, m := range []Material{{}, {Format: "pem"}, {Format: Userpass, Binary: true}} {
			if m.Equal(m) {
				t.Errorf("%v equals itself", m)
			}
		}
	})

	// A comparison that stopped at the first difference would not come to the released field, which panics on use.
	for claim, c := range map[string]struct{ a, b Material }{
		"the value is looked at though the user differs":    {userpass("a", "x"), userpass("b", "x")},
		"the value is looked at though the shape differs":   {opaque("x"), binaryOf("x")},
		"the value is looked at though the format differs":  {opaque("x"), userpass("a", "x")},
		"the value is looked at though the shape is no use": {Material{}, Material{Value: sensitive.CopyString("x")}},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			c.b.Value.Release()
			if !panics(func() { c.a.Equal(c.b) }) {
				t.Error("it was not")
			}
		})
	}
	t.Run("the user is looked at though the value differs", func(t *testing.T) {
		t.Parallel()
		a, b := userpass("a", "x"), userpass("a", "y")
		b.Username.Release()
		if !panics(func() { a.Equal(b) }) {
			t.Error("it was not")
		}
	})
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestMaterialRelease(t *testing.T) {
	t.Parallel()
	m := userpass("user", "password")
	user, password := m.Username.Reveal(), m.Value.Reveal()
	m.Release()
	m.Release()
	Material{}.Release()
	if !bytes.Equal(user, make([]byte, 4)) || !bytes.Equal(password, make([]byte, 8)) {
		t.Error("the material is not zeroed")
	}
}

func TestGenerateValue(t *testing.T) {
	t.Parallel()

	t.Run("it is the base64url of 256 bits of the source", func(t *testing.T) {
		t.Parallel()
		source := append([]byte{0xfb, 0xff}, bytes.Repeat([]byte{0xff}, 30)...)
		value, err := GenerateValue(bytes.NewReader(append(source, 1, 2, 3)))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(value.Reveal()), "-____"+strings.Repeat("_", 37)+"8"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})

	t.Run("a nil source is the system's", func(t *testing.T) {
		t.Parallel()
		seen := map[string]bool{}
		for range 100 {
			value, err := GenerateValue(nil)
			if err != nil {
				t.Fatal(err)
			}
			if m := (Material{Format: Opaque, Value: value}); value.Len() != 43 || m.Validate() != nil {
				t.Fatalf("%d bytes, %v", value.Len(), m.Validate())
			}
			seen[string(value.Reveal())] = true
		}
		if len(seen) != 100 {
			t.Errorf("100 values are %d different ones", len(seen))
		}
	})

	t.Run("I4 a source that ends early or fails gives no value", func(t *testing.T) {
		t.Parallel()
		broken := errors.New("broken")
		for _, source := range []io.Reader{
			bytes.NewReader(nil), bytes.NewReader(make([]byte, 31)), io.MultiReader(bytes.NewReader(make([]byte, 31)), failing{broken}),
		} {
			value, err := GenerateValue(source)
			wantFault(t, err, fault.Internal)
			if !value.IsZero() {
				t.Error("a value came with the error")
			}
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
