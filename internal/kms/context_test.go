package kms

import (
	"bytes"
	"maps"
	"testing"
)

func TestI5_ContextsThatDifferAreEncodedApart(t *testing.T) {
	t.Parallel()
	id := [16]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	c := NewContext(Int("version", -1), Text("use", "secret"), UUID("secret_id", id), Text("name", "payments/db"))
	want := map[string]string{
		"use": "secret", "secret_id": "00112233-4455-6677-8899-aabbccddeeff", "name": "payments/db", "version": "-1",
	}
	if !maps.Equal(c.Map(), want) {
		t.Errorf("as text it is %v", c.Map())
	}
	text := contextOf(want)
	if !bytes.Equal(c.appendText(nil), text.appendText(nil)) {
		t.Error("the additional data depends on how the values were given")
	}
	other := id
	other[15]++
	seen := map[string]int{}
	all := []Context{
		c,
		{},
		NewContext(Text("", "")), NewContext(Text("a", "b")), NewContext(Text("b", "a")), NewContext(Text("ab", "")),
		NewContext(Text("a", ""), Text("b", "")), NewContext(Text("a", "b"), Text("c", "d")), NewContext(Text("a", "d"), Text("c", "b")),
		NewContext(Int("version", 1), Text("use", "secret"), UUID("secret_id", id), Text("name", "payments/db")),
		NewContext(Int("version", -1), Text("use", "integrity"), UUID("secret_id", id), Text("name", "payments/db")),
		NewContext(Int("version", -1), Text("use", "secret"), UUID("secret_id", other), Text("name", "payments/db")),
		NewContext(Int("version", -1), Text("use", "secret"), UUID("secret_id", id), Text("name", "payments/dc")),
	}
	for i := range all {
		encoded := string(all[i].appendTyped(nil))
		if before, ok := seen[encoded]; ok {
			t.Errorf("contexts %d and %d are encoded alike", before, i)
		}
		seen[encoded] = i
	}
}

func TestContext_ProgrammingErrorsPanic(t *testing.T) {
	t.Parallel()
	for name, pairs := range map[string][]Pair{
		"a name twice": {Text("b", "1"), Text("a", "1"), Int("b", 2)},
		"too many":     {Text("a", ""), Text("b", ""), Text("c", ""), Text("d", ""), Text("e", ""), Text("f", ""), Text("g", "")},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: taken", name)
				}
			}()
			NewContext(pairs...)
		}()
	}
}
