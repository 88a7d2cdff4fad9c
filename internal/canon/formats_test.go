package canon

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documented returns, for each label that has a heading in docs/formats.md, the rows of the table below it as
// "name type", and the whole text.
func documented(tb testing.TB) (fields map[string][]string, text string) {
	tb.Helper()
	raw, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		tb.Fatal(err)
	}
	label, row := regexp.MustCompile("`(sealkeep/[^`]+)`"), regexp.MustCompile(`^\| \d+ \| (\w+) \| (.+) \|$`)
	fields = map[string][]string{}
	var current []string
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			current = nil
			for _, m := range label.FindAllStringSubmatch(line, -1) {
				current = append(current, m[1])
			}
		}
		if m := row.FindStringSubmatch(line); m != nil {
			for _, l := range current {
				fields[l] = append(fields[l], m[1]+" "+m[2])
			}
		}
	}
	return fields, string(raw)
}

func TestFormatsDocument_NamesEveryLabelAndType(t *testing.T) {
	t.Parallel()
	fields, text := documented(t)
	labels := []string{LabelAAD, LabelAuditOpen, LabelAuditRecord, LabelAuditClose, LabelAuthz, LabelWrappedTwice, LabelPermission, LabelIdempotency}
	for _, table := range []string{"roles", "role_permissions", "admin_tokens", "secrets", "secret_versions", "deleted_secrets", "rotation_control", "rotation_fetches", "keyring"} {
		labels = append(labels, LabelRow(table))
	}
	for _, l := range labels {
		if len(fields[l]) == 0 {
			t.Errorf("%s has no table of fields", l)
		}
	}
	for name, typ := range map[string]byte{
		"NULL": typeNull, "bytes": typeBytes, "text": typeText, "int": typeInt, "time": typeTime, "UUID": typeUUID, "address": typeAddr,
	} {
		if !strings.Contains(text, fmt.Sprintf("| %s | `0x%02x` |", name, typ)) {
			t.Errorf("type %s is not documented as 0x%02x", name, typ)
		}
	}
}

// The vectors' fields are those of the document, in its order, and each that may be NULL is NULL in some vector.
func TestFormatsDocument_AgreesWithTheVectors(t *testing.T) {
	t.Parallel()
	fields, _ := documented(t)
	type message struct {
		Name, Label string
		Fields      []struct {
			Name, Type string
			Value      *string
		}
	}
	var file struct {
		Recovering message `json:"opening_with_predecessor"`
		Chain      []message
	}
	var rows struct{ Rows []message }
	read(t, "audit.json", &file)
	read(t, "rows.json", &rows)
	types := map[string]string{"uuid": "UUID", "text": "text", "int": "int", "time": "time", "bytes": "bytes", "addr": "address"}
	seen := map[string]bool{}
	const leftOut = ", or left out"
	shortened := map[string]bool{}
	for _, m := range append(append(file.Chain, file.Recovering), rows.Rows...) {
		described := slices.Clone(fields[m.Label])
		short := len(m.Fields) < len(described)
		if short {
			described = slices.DeleteFunc(described, func(doc string) bool { return strings.HasSuffix(doc, leftOut) })
		}
		shortened[m.Label+fmt.Sprint(short)] = true
		if len(m.Fields) != len(described) {
			t.Fatalf("%s: %d fields, %d are documented", m.Name, len(m.Fields), len(described))
		}
		for i, f := range m.Fields {
			plain := f.Name + " " + types[f.Type]
			want := []string{plain + " or NULL"}
			if f.Value != nil {
				want = append(want, plain)
			}
			if doc := strings.TrimSuffix(described[i], leftOut); !slices.Contains(want, doc) {
				t.Errorf("%s: field %d is %q, documented as %q", m.Name, i+1, plain, doc)
			}
			seen[m.Label+fmt.Sprint(i, f.Value == nil)] = true
		}
	}
	labels := []string{LabelAuditOpen, LabelAuditRecord}
	for _, m := range rows.Rows {
		labels = append(labels, m.Label)
	}
	for _, l := range labels {
		for i, doc := range fields[l] {
			if strings.HasSuffix(doc, " or NULL") && (!seen[l+fmt.Sprint(i, true)] || !seen[l+fmt.Sprint(i, false)]) {
				t.Errorf("%s: no vectors with and without %q", l, doc)
			}
			if strings.HasSuffix(doc, leftOut) && (!shortened[l+"true"] || !shortened[l+"false"]) {
				t.Errorf("%s: no vectors with and without the field of %q", l, doc)
			}
		}
	}
}

func read(tb testing.TB, file string, v any) {
	tb.Helper()
	raw, err := os.ReadFile("../../testdata/formats/" + file)
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		tb.Fatal(err)
	}
}
