package kms

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

func TestParseMasterKey_AcceptsEveryForm(t *testing.T) {
	t.Parallel()
	want := sequence(0xf0, DataKeySize)
	spaced := append([]byte(" \t\r\n\v\f"), sequence(0x80, DataKeySize-6)...)
	for name, c := range map[string]struct{ text, want []byte }{
		"hexadecimal":               {[]byte(hex.EncodeToString(want)), want},
		"upper case, with newline":  {[]byte(strings.ToUpper(hex.EncodeToString(want)) + "\n"), want},
		"base64":                    {[]byte(base64.StdEncoding.EncodeToString(want)), want},
		"base64 within white space": {[]byte("\r\n\t " + base64.StdEncoding.EncodeToString(want) + " \r\n"), want},
		"base64 without padding":    {[]byte(base64.RawStdEncoding.EncodeToString(want)), want},
		"raw":                       {want, want},
		"raw that looks like white space at its ends": {spaced, spaced},
	} {
		before := bytes.Clone(c.text)
		got, err := ParseMasterKey(c.text)
		if err != nil || !bytes.Equal(got.Reveal(), c.want) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got.Release()
		if !bytes.Equal(c.text, before) {
			t.Errorf("%s: the input was changed", name)
		}
	}
}

func TestI1_ParseMasterKeyErrorsHoldNoInput(t *testing.T) {
	t.Parallel()
	key := sequence(0xf0, DataKeySize)
	hexText, base64Text := hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key)
	for name, text := range map[string]string{
		"nothing":                    "",
		"white space":                " \n",
		"31 raw bytes":               string(key[:31]),
		"33 raw bytes":               string(key) + "\xff",
		"raw and a newline":          string(key) + "\n",
		"half a key in hexadecimal":  hexText[:32],
		"a passphrase of 32":         "correct horse battery staple 123",
		"hexadecimal, a digit less":  hexText[1:],
		"hexadecimal, a digit more":  hexText + "0",
		"hexadecimal, a wrong digit": "z" + hexText[1:],
		"hexadecimal, spaced":        hexText[:32] + " " + hexText[33:],
		"base64 of 31":               base64.StdEncoding.EncodeToString(key[:31]),
		"base64 of 33":               base64.StdEncoding.EncodeToString(append(bytes.Clone(key), 1)),
		"base64, broken":             "!" + base64Text[1:],
		"base64, broken by a line":   base64Text[:20] + "\n" + base64Text[21:],
		"base64, URL alphabet":       base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, DataKeySize)),
		"base64, loose last bits":    base64Text[:42] + "/=",
		"quoted":                     `"` + base64Text + `"`,
	} {
		got, err := ParseMasterKey([]byte(text))
		if err == nil || !got.IsZero() {
			t.Errorf("%s was taken", name)
			continue
		}
		if !errors.Is(err, errMasterKeyForm) && !errors.Is(err, errMasterKeyText) {
			t.Errorf("%s: the error is none of the two constants: %v", name, err)
		}
	}
}

func TestNewMasterKeyText(t *testing.T) {
	t.Parallel()
	text, err := NewMasterKeyText(bytes.NewReader(sequence(0, DataKeySize)))
	if err != nil || string(text) != "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n" {
		t.Fatalf("%q, %v", text, err)
	}
	got, err := ParseMasterKey(text)
	if err != nil || !bytes.Equal(got.Reveal(), sequence(0, DataKeySize)) {
		t.Errorf("does not parse back: %v", err)
	}
	a, errA := NewMasterKeyText(nil)
	b, errB := NewMasterKeyText(nil)
	if errA != nil || errB != nil || bytes.Equal(a, b) || !regexp.MustCompile(`^[A-Za-z0-9+/]{43}=\n$`).Match(a) {
		t.Error("random master keys are not two different lines of base64")
	}
	if text, err := NewMasterKeyText(bytes.NewReader(sequence(0, DataKeySize-1))); err == nil || text != nil {
		t.Error("a short read gave a key")
	}
}

func FuzzParseMasterKey(f *testing.F) {
	key := sequence(0xf0, DataKeySize)
	f.Add(key)
	f.Add([]byte(hex.EncodeToString(key)))
	f.Add([]byte(base64.StdEncoding.EncodeToString(key) + "\n"))
	f.Add([]byte(" " + base64.RawStdEncoding.EncodeToString(key)))
	f.Add([]byte("0123456789abcdef0123456789abcdef"))
	f.Add([]byte(nil))
	f.Add([]byte("\n\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		got, err := ParseMasterKey(text)
		if !bytes.Equal(before, text) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if !got.IsZero() || (!errors.Is(err, errMasterKeyForm) && !errors.Is(err, errMasterKeyText)) {
				t.Errorf("error %v", err)
			}
			return
		}
		if got.Len() != DataKeySize {
			t.Fatalf("a key of %d bytes", got.Len())
		}
		again, err := ParseMasterKey([]byte(hex.EncodeToString(got.Reveal())))
		if err != nil || !sensitive.Equal(again, got) {
			t.Errorf("its hexadecimal form is another key: %v", err)
		}
	})
}
