package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/pgproxy"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// Addresses that the trusted proxy, which the test is, names.
const listed, foreign = "192.0.2.1", "203.0.113.1"

// walk is a vault with clients whose every answer is held against the contract.
type walk struct {
	t      *testing.T
	vault  *vaulttest.Vault
	proxy  *pgproxy.Proxy
	client *http.Client
	weak   string // a token whose role may do nothing
	n      int64
}

// step is one request.
type step struct {
	method, path string
	body         string // "" is none
	token        string // "" is the admin's
	anonymous    bool   // it sends none
	from         string // "" is a listed address
	headers      []string
}

func newWalk(t *testing.T, v *validator) *walk {
	t.Helper()
	proxy := pgproxy.New(t, func(string, pgproxy.Transaction) string { return "" })
	w := &walk{
		t: t, proxy: proxy, client: &http.Client{Transport: v},
		vault: vaulttest.New(t, vaulttest.Config{Proxy: proxy, Options: []sealkeeptest.Option{
			sealkeeptest.WithReadAuth("ip+token"), sealkeeptest.WithAllowedIPs("192.0.2.0/24"), sealkeeptest.WithTrustProxy("127.0.0.0/8"),
		}}),
	}
	w.want(http.StatusCreated, step{method: "POST", path: "/v1/roles", body: `{"name":"weak","permissions":[]}`})
	w.weak = w.want(http.StatusCreated, step{method: "POST", path: "/v1/tokens", body: `{"name":"weak","role":"weak"}`})["token"].(string)
	return w
}

// want sends a request, fails unless it is answered with that status, and returns what was answered, if it is an object.
func (w *walk) want(status int, s step) map[string]any {
	w.t.Helper()
	got, header, body := w.send(s)
	if got != status {
		w.t.Fatalf("%s %s answered %d, want %d: %s", s.method, s.path, got, status, body)
	}
	object := map[string]any{}
	_ = json.Unmarshal(body, &object)
	if etag := header.Get("ETag"); etag != "" {
		object["etag"] = etag
	}
	return object
}

func (w *walk) send(s step) (int, http.Header, []byte) {
	w.t.Helper()
	var content io.Reader
	if s.body != "" {
		content = strings.NewReader(s.body)
	}
	request, err := http.NewRequestWithContext(w.t.Context(), s.method, w.vault.URL+s.path, content)
	if err != nil {
		w.t.Fatal(err)
	}
	if s.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("X-Forwarded-For", listed)
	if s.from != "" {
		request.Header.Set("X-Forwarded-For", s.from)
	}
	switch {
	case s.anonymous:
	case s.token != "":
		request.Header.Set("Authorization", "Bearer "+s.token)
	default:
		request.Header.Set("Authorization", "Bearer "+w.vault.AdminToken)
	}
	for _, line := range s.headers {
		name, value, _ := strings.Cut(line, ": ")
		request.Header.Set(name, value)
	}
	response, err := w.client.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	body := new(bytes.Buffer)
	if _, err := body.ReadFrom(response.Body); err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, response.Header, body.Bytes()
}

// noJob is the path of a job that doesn't exist.
const noJob = "/v1/jobs/0190a6c2-7d3e-4b1a-9c57-2f6d8e4b1a90"

// plain are operations with a request each that is valid in form, for what is refused the same way everywhere.
var plain = map[string]step{
	"createSecret":       {method: "POST", path: "/v1/secrets", body: `{"name":"plain/new","kind":"manual","value":"v"}`},
	"listSecrets":        {method: "GET", path: "/v1/secrets"},
	"readSecret":         {method: "GET", path: "/v1/secrets/plain/a"},
	"updateSecret":       {method: "PUT", path: "/v1/secrets/plain/a", body: `{"description":"d"}`},
	"deleteSecret":       {method: "DELETE", path: "/v1/secrets/plain/none"},
	"rotateSecret":       {method: "POST", path: "/v1/secrets/plain/auto/rotate", body: `{}`},
	"rollbackSecret":     {method: "POST", path: "/v1/secrets/plain/auto/rollback", body: `{"version":1}`},
	"pauseSecret":        {method: "POST", path: "/v1/secrets/plain/auto/pause", body: `{}`},
	"resumeSecret":       {method: "POST", path: "/v1/secrets/plain/auto/resume", body: `{}`},
	"listSecretJobs":     {method: "GET", path: "/v1/secrets/plain/a/jobs"},
	"listJobs":           {method: "GET", path: "/v1/jobs"},
	"readJob":            {method: "GET", path: noJob},
	"retryJob":           {method: "POST", path: noJob + "/retry", body: `{}`},
	"cancelJob":          {method: "POST", path: noJob + "/cancel", body: `{}`},
	"readRotation":       {method: "GET", path: "/v1/rotation"},
	"pauseRotation":      {method: "POST", path: "/v1/rotation/pause", body: `{}`},
	"fetchValue":         {method: "GET", path: "/v1/rotation/fetch"},
	"resumeRotation":     {method: "POST", path: "/v1/rotation/resume", body: `{}`},
	"verifySecret":       {method: "POST", path: "/v1/secrets/plain/a/verify", body: `{"value":"v"}`},
	"listVersions":       {method: "GET", path: "/v1/secrets/plain/a/versions"},
	"readBatch":          {method: "POST", path: "/v1/batch/secrets", body: `{"names":["plain/a"]}`},
	"createRole":         {method: "POST", path: "/v1/roles", body: `{"name":"plain","permissions":[]}`},
	"listRoles":          {method: "GET", path: "/v1/roles"},
	"readRole":           {method: "GET", path: "/v1/roles/weak"},
	"deleteRole":         {method: "DELETE", path: "/v1/roles/none"},
	"setRolePermissions": {method: "PUT", path: "/v1/roles/weak/permissions", body: `{"permissions":[]}`},
	"createToken":        {method: "POST", path: "/v1/tokens", body: `{"name":"plain","role":"weak"}`},
	"listTokens":         {method: "GET", path: "/v1/tokens"},
	"revokeToken":        {method: "DELETE", path: "/v1/tokens/none"},
	"listEvents":         {method: "GET", path: "/v1/audit"},
	"status":             {method: "GET", path: "/v1/status"},
	"health":             {method: "GET", path: "/healthz"},
	"ready":              {method: "GET", path: "/readyz"},
}
