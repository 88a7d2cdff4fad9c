package audit

import (
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// vector is one message of testdata/formats/audit.json, with its fields by name.
type vector struct {
	Name, Label, Message string
	Fields               []struct {
		Name  string
		Value *string
	}
}

func (v vector) value(t *testing.T, name string) *string {
	t.Helper()
	for _, f := range v.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	t.Fatalf("%s: no field %s", v.Name, name)
	return nil
}

// field parses a field's value; an absent one is nil.
func field[T any](t *testing.T, v vector, name string, parse func(string) (T, error)) *T {
	t.Helper()
	text := v.value(t, name)
	if text == nil {
		return nil
	}
	value, err := parse(*text)
	must(t, err)
	return &value
}

func asText(s string) (string, error)    { return s, nil }
func asInt(s string) (int64, error)      { return strconv.ParseInt(s, 10, 64) }
func asTime(s string) (time.Time, error) { return time.Parse(time.RFC3339Nano, s) }

func bytesOf(t *testing.T, v vector, name string) []byte {
	t.Helper()
	if b := field(t, v, name, hex.DecodeString); b != nil {
		return *b
	}
	return nil
}

func (v vector) opening(t *testing.T, vaultID uuid.UUID) opening {
	t.Helper()
	return opening{
		streamID: *field(t, v, "stream_id", uuid.Parse), vaultID: vaultID, keyID: *field(t, v, "key_id", uuid.Parse),
		process: *field(t, v, "process", asText), kind: *field(t, v, "kind", asText),
		openedAt: *field(t, v, "opened_at", asTime), systemID: *field(t, v, "system_id", asText),
		timeline: *field(t, v, "timeline", asInt), predecessor: field(t, v, "predecessor", uuid.Parse),
		predecessorSeq: field(t, v, "predecessor_seq", asInt), predecessorMAC: bytesOf(t, v, "predecessor_mac"),
	}
}

func (v vector) record(t *testing.T) *postgres.Record {
	t.Helper()
	var detail []byte
	if v.value(t, "detail") != nil {
		detail = bytesOf(t, v, "detail")
	}
	return &postgres.Record{
		At: *field(t, v, "at", asTime), Actor: *field(t, v, "actor", asText), ClientIP: field(t, v, "client_ip", netip.ParseAddr),
		Action: *field(t, v, "action", asText), SecretName: field(t, v, "secret_name", asText),
		Version: field(t, v, "version", asInt), Outcome: *field(t, v, "outcome", asText),
		RequestID: *field(t, v, "request_id", asText), TraceID: field(t, v, "trace_id", asText), Detail: detail,
	}
}

func TestI10_EncodingsAreThePublishedOnes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../testdata/formats/audit.json")
	must(t, err)
	var file struct {
		VaultID string   `json:"vault_id"`
		Opening vector   `json:"opening_with_predecessor"`
		Chain   []vector `json:"chain"`
	}
	must(t, json.Unmarshal(text, &file))
	vaultID := uuid.MustParse(file.VaultID)
	if len(file.Chain) != 4 || file.Chain[3].Label != canon.LabelAuditClose {
		t.Fatalf("the vectors hold another chain: %d messages", len(file.Chain))
	}
	check := func(v vector, got []byte) {
		t.Helper()
		if hex.EncodeToString(got) != v.Message {
			t.Errorf("%s: encoded as\n%x, not\n%s", v.Name, got, v.Message)
		}
	}
	check(file.Opening, file.Opening.opening(t, vaultID).message(nil))
	check(file.Chain[0], file.Chain[0].opening(t, vaultID).message(nil))
	for _, v := range file.Chain[1:] {
		check(v, recordMessage(nil, v.Label, *field(t, v, "stream_id", uuid.Parse), *field(t, v, "seq", asInt),
			bytesOf(t, v, "previous_mac"), *field(t, v, "key_id", uuid.Parse), v.record(t)))
	}
}
