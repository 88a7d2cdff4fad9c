// Package tamper proves what remains of a vault whose database somebody writes to by hand, with all rights that PostgreSQL
// has to give: a ciphertext opens in its own place alone (I5), what doesn't open is refused and raises an alarm (I4, I11),
// rows are shown to the service's own roles alone (I6), and an altered audit record is named (I10).
package tamper

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bench is a vault that serves while its rows are tampered with.
type bench struct {
	*vaulttest.Vault
	serial  atomic.Int64
	headers map[int]string // of the first refusal with each status
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return &bench{Vault: vaulttest.New(t, vaulttest.Config{}), headers: map[int]string{}}
}

// question is a request that would be answered if nothing were tampered with.
type question struct {
	method, path string
	body         any
	action       string // as audited
	secret       string // the one that doesn't verify
	status       int    // of the refusal
}

func (q question) String() string { return q.method + " " + q.path }

type object = map[string]any

func path(name string) string { return "/v1/secrets/" + name }

func read(name string) question {
	return question{http.MethodGet, path(name), nil, "secret.read", name, http.StatusInternalServerError}
}

func readVersion(name string, version int) question {
	q := read(name)
	q.path += fmt.Sprintf("?version=%d", version)
	return q
}

func verify(name, value string) question {
	return question{http.MethodPost, path(name) + "/verify", object{"value": value}, "secret.verify", name, http.StatusServiceUnavailable}
}

func batch(bad string, names ...string) question {
	return question{http.MethodPost, "/v1/batch/secrets", object{"names": names}, "secret.read", bad, http.StatusInternalServerError}
}

func update(name string, body object) question {
	return question{http.MethodPut, path(name), body, "secret.update", name, http.StatusInternalServerError}
}

// refusals are the whole bodies of the two refusals; nothing but the request id varies.
var refusals = map[int]string{
	http.StatusInternalServerError: `{"error":"internal error","code":"internal","request_id":"%s"}`,
	http.StatusServiceUnavailable:  `{"error":"temporarily unavailable; try again later","code":"unavailable","request_id":"%s"}`,
}

// failsClosed asks and requires a refusal that says nothing outside, and everything inside: in the server's log, in the audit
// trail, and in the counter that alarms are made from.
func (b *bench) failsClosed(t *testing.T, q question, options ...sealkeeptest.RequestOption) {
	t.Helper()
	id := fmt.Sprintf("tamper-%06d", b.serial.Add(1))
	series := fmt.Sprintf("sealkeep_vault_integrity_failures_total{action=%q}", q.action)
	before := b.Metric(t, series)
	options = append(options, sealkeeptest.WithHeader("X-Request-Id", id))
	answer := b.Do(t, q.method, q.path, q.body, options...)

	if want := fmt.Sprintf(refusals[q.status], id); answer.Status != q.status || string(answer.Body) != want {
		t.Errorf("I5: %s: %d %s, want %d %s", q, answer.Status, answer.Body, q.status, want)
	}
	answer.Header.Del("Date")
	answer.Header.Del("X-Request-Id")
	var headers strings.Builder
	_ = answer.Header.Write(&headers)
	if first, ok := b.headers[q.status]; !ok {
		b.headers[q.status] = headers.String()
	} else if headers.String() != first {
		t.Errorf("I11: %s: the headers differ from those of other refusals:\n%s\n%s", q, headers.String(), first)
	}

	if record := b.AuditOf(t, id); record.Outcome != "unverifiable" || record.Action != q.action || record.Name != q.secret {
		t.Errorf("%s: recorded as %+v", q, record)
	}
	if raised := b.Metric(t, series) - before; raised != 1 {
		t.Errorf("%s: %s rose by %v", q, series, raised)
	}
	alarmed := false
	for line := range strings.Lines(b.Log.String()) {
		alarmed = alarmed || strings.Contains(line, `"integrity alarm`) && strings.Contains(line, id) &&
			strings.Contains(line, fmt.Sprintf("%q:%q", "secret", q.secret)) && strings.Contains(line, "the row doesn't verify: ")
	}
	if !alarmed {
		t.Errorf("%s: the log has no alarm that says which row and why", q)
	}
}

// answers asks and requires an answer: service is back.
func (b *bench) answers(t *testing.T, q question) *sealkeeptest.Response {
	t.Helper()
	return b.Do(t, q.method, q.path, q.body).Want(t, http.StatusOK)
}

func (b *bench) create(t *testing.T, name string, body object) *sealkeeptest.Response {
	t.Helper()
	body["name"], body["kind"] = name, "manual"
	return b.Do(t, http.MethodPost, "/v1/secrets", body).Want(t, http.StatusCreated)
}
