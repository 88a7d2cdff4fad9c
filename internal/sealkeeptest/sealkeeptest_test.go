package sealkeeptest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestVaultWorksFromEndToEnd(t *testing.T) {
	t.Parallel()
	v := New(t)
	const first, second = "Zu8mQ4-first-value", "Wk2pX9-second-value"

	created := v.Do(t, "POST", "/v1/secrets", map[string]any{
		"name": "apps/web/db", "kind": "manual", "value": first, "grace_period_secs": 3600,
	}).Want(t, http.StatusCreated)
	if created.Text("value") != first || created.Number("version") != 1 {
		t.Errorf("created %s", created.Body)
	}
	for _, path := range []string{"/v1/secrets/apps/web/db", "/v1/secrets/apps%2Fweb%2Fdb"} {
		if read := v.Do(t, "GET", path, nil, WithToken("")).Want(t, http.StatusOK); read.Text("value") != first {
			t.Errorf("%s: %s", path, read.Body)
		}
	}
	if updated := v.Do(t, "PUT", "/v1/secrets/apps/web/db", map[string]any{"value": second}).Want(t, http.StatusOK); updated.Number("version") != 2 {
		t.Errorf("updated %s", updated.Body)
	}
	for value, want := range map[string]bool{first: true, second: true, "neither": false} {
		verdict := v.Do(t, "POST", "/v1/secrets/apps/web/db/verify", map[string]any{"value": value}, WithToken("")).Want(t, http.StatusOK)
		if verdict.JSON["valid"] != want {
			t.Errorf("%s verifies as %s", value, verdict.Body)
		}
	}

	v.Restart(t)
	if read := v.Do(t, "GET", "/v1/secrets/apps/web/db", nil).Want(t, http.StatusOK); read.Text("value") != second {
		t.Errorf("after a restart: %s", read.Body)
	}
	v.Do(t, "DELETE", "/v1/secrets/apps/web/db", nil).Want(t, http.StatusNoContent)
	v.Do(t, "GET", "/v1/secrets/apps/web/db", nil).Want(t, http.StatusNotFound)
	if text := v.Log.String(); strings.Contains(text, first) || strings.Contains(text, second) || !strings.Contains(text, `"msg":"request"`) {
		t.Error("the log holds a value, or no requests")
	}
}

func TestI4_ReadsAreDeniedOutsideTheAllowlist(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]Option{
		"an empty one":        {WithAllowedIPs("")},
		"one of other hosts":  {WithAllowedIPs("10.0.0.0/8")},
		"behind an own proxy": {WithAllowedIPs("10.0.0.0/8"), WithTrustProxy("192.0.2.1")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := New(t, options...)
			created := v.Do(t, "POST", "/v1/secrets", map[string]any{"name": "a", "kind": "manual", "value": "Zu8mQ4"}).Want(t, http.StatusCreated)
			if _, disclosed := created.JSON["value"]; disclosed {
				t.Errorf("the answer to create discloses: %s", created.Body)
			}
			for _, header := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded"} {
				v.Do(t, "GET", "/v1/secrets/a", nil, WithHeader(header, "10.0.0.1")).Want(t, http.StatusForbidden)
			}
			warned := strings.Contains(v.Log.String(), "every read is denied")
			if wanted := name == "an empty one"; warned != wanted {
				t.Errorf("warned of an empty allowlist: %v", warned)
			}
		})
	}
}

func TestProxyInBetween(t *testing.T) {
	t.Parallel()
	var direct string
	var log Buffer
	v := New(t, WithDatabaseURL(func(url string) string { direct = url; return url }), WithLog(&log), WithReadAuth("ip+token"))
	if !strings.Contains(direct, "127.0.0.1") && !strings.Contains(direct, "localhost") {
		t.Errorf("not over TCP: %s", direct)
	}
	v.Do(t, "GET", "/v1/secrets/a", nil, WithToken("")).Want(t, http.StatusUnauthorized)
	if log.String() == "" || !strings.Contains(log.String(), `"read_auth":"ip+token"`) {
		t.Error("the log wasn't handed on")
	}
	if v.Metric(t, `sealkeep_database_connections{state="limit"}`) != 8 {
		t.Error("no metrics")
	}
}
