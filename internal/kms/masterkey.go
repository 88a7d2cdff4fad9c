package kms

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// The errors are constants because those of encoding/hex and encoding/base64 quote their input.
var (
	errMasterKeyForm = errors.New("kms: a master key is 32 bytes as 64 hexadecimal digits, as base64, or raw")
	errMasterKeyText = errors.New("kms: the master key is 32 characters of text, not 32 random bytes; give 64 hexadecimal digits or base64")
)

// ParseMasterKey reads a 32-byte master key from the content of a file or variable: 64 hexadecimal digits, or standard
// base64 with or without padding, either with white space around it, or 32 raw bytes with nothing around them. Errors
// never hold any of the input. text stays the caller's, to keep or to zero.
func ParseMasterKey(text []byte) (sensitive.Bytes, error) {
	if len(text) == DataKeySize {
		// Half a key in hexadecimal has 32 characters too, and so has many a passphrase. Of 32 random bytes, one in
		// 10^13 is all text, and generating another is no hardship.
		if isText(text) {
			return sensitive.Bytes{}, errMasterKeyText
		}
		return sensitive.Copy(text), nil
	}
	text = bytes.TrimSpace(text)
	key := make([]byte, DataKeySize+1) // room for what is one byte too long
	var n int
	var err error
	switch len(text) {
	case hex.EncodedLen(DataKeySize):
		n, err = hex.Decode(key, text)
	case base64.StdEncoding.EncodedLen(DataKeySize):
		n, err = base64.StdEncoding.Strict().Decode(key, text)
	case base64.RawStdEncoding.EncodedLen(DataKeySize):
		n, err = base64.RawStdEncoding.Strict().Decode(key, text)
	}
	if err != nil || n != DataKeySize {
		sensitive.Zero(key)
		return sensitive.Bytes{}, errMasterKeyForm
	}
	return sensitive.Take(key[:DataKeySize]), nil
}

// NewMasterKeyText returns a fresh master key as a line of base64, ending in a newline, which the caller writes where
// only the service can read it and then zeroes. nil means randomness.Reader; what it gives is tested.
func NewMasterKeyText(random io.Reader) ([]byte, error) {
	random = randomness.New(random)
	key := make([]byte, DataKeySize)
	defer sensitive.Zero(key)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, fmt.Errorf("kms: generate a master key: %w", err)
	}
	text := make([]byte, base64.StdEncoding.EncodedLen(DataKeySize)+1)
	base64.StdEncoding.Encode(text, key)
	text[len(text)-1] = '\n'
	return text, nil
}

func isText(b []byte) bool {
	for _, c := range b {
		if (c < ' ' || c > '~') && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return true
}
