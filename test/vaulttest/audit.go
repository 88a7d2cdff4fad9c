package vaulttest

import (
	"slices"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// Record is one audit record as it lies in the database; missing text is empty, a missing version 0.
type Record struct {
	At        time.Time
	Actor     string
	ClientIP  string
	Action    string
	Name      string
	Version   int64
	Outcome   string
	RequestID string
	Detail    string
}

// Audit returns the committed records whose request id begins with prefix, by time.
func (v *Vault) Audit(t testing.TB, prefix string) []Record {
	t.Helper()
	return pgtest.Query[Record](t, v.DB, `
		SELECT at, actor, coalesce(host(client_ip), ''), action, coalesce(secret_name, ''), coalesce(version, 0), outcome,
		       request_id, coalesce(convert_from(detail, 'UTF8'), '')
		FROM vault.audit_log WHERE starts_with(request_id, $1) ORDER BY at, stream_id, seq`, prefix)
}

// AuditOf returns the one record of a request that stands, and fails the test if there is another number of them. Denials are recorded
// after their answer left, so it waits.
func (v *Vault) AuditOf(t testing.TB, requestID string) Record {
	t.Helper()
	var records []Record
	Eventually(t, "request "+requestID+" has a record", func() bool {
		records = v.Audit(t, requestID)
		return len(records) > 0
	})
	records = standing(records)
	if len(records) != 1 {
		t.Fatalf("request %s has %d records: %v", requestID, len(records), records)
	}
	return records[0]
}

// standing leaves out what was withheld: a record that says so, and the one that it takes back.
func standing(records []Record) []Record {
	var left []Record
	for _, r := range records {
		if r.Outcome != "withheld" {
			left = append(left, r)
			continue
		}
		for i := len(left) - 1; i >= 0; i-- {
			if left[i].Action == r.Action && left[i].Name == r.Name && left[i].Version == r.Version {
				left = slices.Delete(left, i, i+1)
				break
			}
		}
	}
	return left
}
