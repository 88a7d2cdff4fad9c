package secret

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

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

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
