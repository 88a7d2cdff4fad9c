package secret

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

func TestMaterialVectors(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../testdata/formats/material.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Name, Format              string
			Binary                    bool
			Username, Value, Encoding string
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil || len(file.Cases) == 0 {
		t.Fatalf("%d vectors, %v", len(file.Cases), err)
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			m := Material{
				Format: Format(c.Format), Binary: c.Binary,
				Username: sensitive.Take(unhex(t, c.Username)), Value: sensitive.Take(unhex(t, c.Value)),
			}
			if err := m.Validate(); err != nil {
				t.Fatal(err)
			}
			want := unhex(t, c.Encoding)
			if got := m.Encode().Reveal(); !bytes.Equal(got, want) {
				t.Errorf("got %x, want %x", got, want)
			}
			if back, err := DecodeMaterial(sensitive.Take(want)); err != nil || !back.Equal(m) {
				t.Errorf("came back as another, %v", err)
			}
		})
	}
}

func TestRotationVectors(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../testdata/formats/rotation.json")
	if err != nil {
		t.Fatal(err)
	}
	type encoded struct{ Name, Encoding string }
	var file struct {
		Jitter []struct {
			SecretID uuid.UUID `json:"secret_id"`
			Fraction string
			OfADay   int64 `json:"of_24h_in_microseconds"`
		}
		Targets, Rotations []encoded
	}
	if err := json.Unmarshal(raw, &file); err != nil || len(file.Jitter) == 0 || len(file.Targets) == 0 || len(file.Rotations) == 0 {
		t.Fatalf("%d, %d and %d vectors, %v", len(file.Jitter), len(file.Targets), len(file.Rotations), err)
	}
	for _, c := range file.Jitter {
		if got := jitter(c.SecretID); strconv.FormatUint(got, 10) != c.Fraction || part(24*time.Hour, got).Microseconds() != c.OfADay {
			t.Errorf("%s: %d, want %s", c.SecretID, got, c.Fraction)
		}
	}
	for _, c := range file.Targets {
		b := unhex(t, c.Encoding)
		if target, err := DecodeTarget(b); err != nil || target.Validate(Userpass, 0) != nil || !bytes.Equal(target.Encode(), b) {
			t.Errorf("%s: %s: %v", c.Name, b, err)
		}
	}
	for _, c := range file.Rotations {
		b := unhex(t, c.Encoding)
		if r, err := DecodeRotation(b); err != nil || r.Validate() != nil || !bytes.Equal(r.Encode(), b) {
			t.Errorf("%s: %s: %v", c.Name, b, err)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
