// Package access shows from outside who gets what: the allowlist and the client's address, tokens and roles, and that
// nobody learns from a refusal whether something exists.
package access

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func setup(t *testing.T, options ...sealkeeptest.Option) *vaulttest.Vault {
	t.Helper()
	return vaulttest.New(t, vaulttest.Config{Options: options})
}

// disclosures are all requests that are answered with a value, or with whether one is right.
var disclosures = map[string]struct {
	method, path string
	body         any
}{
	"read":           {"GET", "/v1/secrets/a", nil},
	"read a version": {"GET", "/v1/secrets/a?version=1", nil},
	"read escaped":   {"GET", "/v1/secrets/%61", nil},
	"verify":         {"POST", "/v1/secrets/a/verify", map[string]any{"value": "val"}},
	"batch":          {"POST", "/v1/batch/secrets", map[string]any{"names": []string{"a"}}},
}

// seed makes the secrets that tests read, and says whether the answers held their values.
func seed(t *testing.T, v *vaulttest.Vault, options ...sealkeeptest.RequestOption) (disclosed bool) {
	t.Helper()
	created := v.Do(t, "POST", "/v1/secrets", map[string]any{"name": "a", "kind": "manual", "value": "val"}, options...).Want(t, http.StatusCreated)
	v.Do(t, "POST", "/v1/secrets", map[string]any{"name": "auto", "kind": "automatic", "rotation_interval_secs": 60}, options...).Want(t, http.StatusCreated)
	rotated := v.Do(t, "POST", "/v1/secrets/auto/rotate", nil, options...).Want(t, http.StatusOK)
	_, first := created.JSON["value"]
	_, second := rotated.JSON["value"]
	if first != second {
		t.Errorf("create discloses: %v; rotate discloses: %v", first, second)
	}
	return first
}

func TestI4_AddressesOutsideTheAllowlistReadNothing(t *testing.T) {
	t.Parallel()
	for list, allowed := range map[string]bool{
		"":                       false,
		"10.0.0.0/8":             false,
		"127.0.0.2":              false,
		"127.0.0.1":              true, // the positive control
		"10.0.0.0/8 127.0.0.0/8": true,
	} {
		t.Run(fmt.Sprintf("allowlist %q", list), func(t *testing.T) {
			t.Parallel()
			v := setup(t, sealkeeptest.WithAllowedIPs(list))
			if disclosed := seed(t, v); disclosed != allowed {
				t.Errorf("answers to changes disclose values: %v", disclosed)
			}
			want := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[allowed]
			id := sealkeeptest.WithHeader("X-Request-Id", "disclosure")
			for _, token := range []string{v.AdminToken, ""} { // an administrator is nobody special
				for what, r := range disclosures {
					if got := v.Do(t, r.method, r.path, r.body, sealkeeptest.WithToken(token), id); got.Status != want {
						t.Errorf("I4: %s answered %d, want %d", what, got.Status, want)
					}
				}
			}
			// What discloses nothing is for tokens alone to decide.
			v.Do(t, "GET", "/v1/secrets/a/versions", nil).Want(t, http.StatusOK)
			v.Do(t, "GET", "/v1/secrets", nil).Want(t, http.StatusOK)
			v.Do(t, "PUT", "/v1/secrets/a", map[string]any{"value": "next"}).Want(t, http.StatusOK)
			if allowed {
				return
			}
			// Beyond a few a second, refusals are counted.
			vaulttest.Eventually(t, "every refusal has its record, or is counted in one", func() bool {
				return len(v.Audit(t, "disclosure"))+counted(t, v) == 2*len(disclosures)
			})
			for _, r := range v.Audit(t, "disclosure") {
				if r.Outcome != "denied" || r.ClientIP != "127.0.0.1" {
					t.Errorf("the record of a refusal: %v", r)
				}
			}
		})
	}
}

// counted says how many refusals are recorded as a count.
func counted(t *testing.T, v *vaulttest.Vault) (n int) {
	t.Helper()
	for _, r := range v.Audit(t, "-") {
		var detail struct{ Count int }
		if r.Action == "audit.denials_counted" && json.Unmarshal([]byte(r.Detail), &detail) == nil {
			n += detail.Count
		}
	}
	return n
}

func TestI4_SpoofedAddressesCountForNothing(t *testing.T) {
	t.Parallel()
	v := setup(t, sealkeeptest.WithAllowedIPs("192.0.2.1"))
	seed(t, v)
	for _, header := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Forwarded-Host"} {
		for _, value := range []string{"192.0.2.1", "for=192.0.2.1", "192.0.2.1, 127.0.0.1", "::ffff:192.0.2.1"} {
			v.Do(t, "GET", "/v1/secrets/a", nil, sealkeeptest.WithHeader(header, value)).Want(t, http.StatusForbidden)
		}
	}
}

// from sends a GET from a loopback address.
func from(t *testing.T, v *vaulttest.Vault, address string, forwarded ...string) int {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
		return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext(ctx, network, to)
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, v.URL+"/v1/secrets/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range forwarded {
		request.Header.Add("X-Forwarded-For", line)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestTrustedProxyNamesTheClient(t *testing.T) {
	t.Parallel()
	v := setup(t, sealkeeptest.WithAllowedIPs("192.0.2.1"), sealkeeptest.WithTrustProxy("127.0.0.1, 198.51.100.0/24"))
	seed(t, v, sealkeeptest.WithHeader("X-Forwarded-For", "203.0.113.9"))
	const proxy, stranger = "127.0.0.1", "127.0.0.9"
	for what, c := range map[string]struct {
		peer      string
		forwarded []string
		status    int
	}{
		"the client by the proxy":                     {proxy, []string{"192.0.2.1"}, 200},
		"another client by the proxy":                 {proxy, []string{"192.0.2.2"}, 403},
		"the client by a stranger":                    {stranger, []string{"192.0.2.1"}, 403},
		"nobody by the proxy":                         {proxy, nil, 403},
		"an empty line by the proxy":                  {proxy, []string{""}, 403},
		"the client claimed by another client":        {proxy, []string{"192.0.2.1, 203.0.113.9"}, 403},
		"a claim of the client's own":                 {proxy, []string{"203.0.113.9, 192.0.2.1"}, 200},
		"the client behind two proxies":               {proxy, []string{"192.0.2.1, 198.51.100.7"}, 200},
		"the client behind two proxies, in two lines": {proxy, []string{"192.0.2.1", "198.51.100.7"}, 200},
		"the claim in the first line":                 {proxy, []string{"192.0.2.1", "203.0.113.9"}, 403},
		"no address":                                  {proxy, []string{"unknown"}, 403},
		"no address on the right":                     {proxy, []string{"192.0.2.1, unknown"}, 403},
		"no address on the left":                      {proxy, []string{"unknown, 192.0.2.1"}, 200},
		"the client with a port":                      {proxy, []string{"192.0.2.1:4711"}, 200},
		"the client mapped into IPv6":                 {proxy, []string{"::ffff:192.0.2.1"}, 200},
		"an IPv6 client":                              {proxy, []string{"2001:db8::1"}, 403},
		"a proxy alone":                               {proxy, []string{"198.51.100.7"}, 403},
	} {
		if got := from(t, v, c.peer, c.forwarded...); got != c.status {
			t.Errorf("%s: %d, want %d", what, got, c.status)
		}
	}
	r := v.Do(t, "GET", "/v1/secrets/a", nil, sealkeeptest.WithToken(""), sealkeeptest.WithHeader("X-Forwarded-For", "192.0.2.1"),
		sealkeeptest.WithHeader("X-Request-Id", "by-proxy")).Want(t, http.StatusOK)
	if record := v.AuditOf(t, r.Header.Get("X-Request-Id")); record.ClientIP != "192.0.2.1" || record.Actor != "address:192.0.2.1" {
		t.Errorf("the record names %s at %s", record.Actor, record.ClientIP)
	}
}
