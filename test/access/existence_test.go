package access

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// onName are all requests about one secret, role or token; NAME stands for it.
var onName = []struct {
	method, path string
	body         string
}{
	{"GET", "/v1/secrets/NAME", ""},
	{"GET", "/v1/secrets/NAME?version=1", ""},
	{"GET", "/v1/secrets/NAME?version=99", ""},
	{"PUT", "/v1/secrets/NAME", `{"value":"v"}`},
	{"PUT", "/v1/secrets/NAME", `{"rotation_interval_secs":5}`},
	{"PUT", "/v1/secrets/NAME", `{}`},
	{"DELETE", "/v1/secrets/NAME", ""},
	{"POST", "/v1/secrets/NAME/rotate", ""},
	{"POST", "/v1/secrets/NAME/verify", `{"value":"val"}`},
	{"GET", "/v1/secrets/NAME/versions", ""},
	{"POST", "/v1/secrets", `{"name":"NAME","kind":"manual","value":"v"}`},
	{"GET", "/v1/roles/NAME", ""},
	{"DELETE", "/v1/roles/NAME", ""},
	{"PUT", "/v1/roles/NAME/permissions", `{"permissions":[]}`},
	{"POST", "/v1/roles", `{"name":"NAME","permissions":[]}`},
	{"POST", "/v1/tokens", `{"name":"NAME","role":"NAME"}`},
	{"DELETE", "/v1/tokens/NAME", ""},
}

// TestI11_RefusalsAreTheSameWhetherOrNotANameExists compares whole answers, byte by byte.
func TestI11_RefusalsAreTheSameWhetherOrNotANameExists(t *testing.T) {
	t.Parallel()
	v := setup(t, sealkeeptest.WithReadAuth("ip+token"))
	const there, missing = "exists", "absent"
	for _, kind := range []string{"manual", "automatic"} {
		body := map[string]any{"name": there, "kind": kind, "value": "val", "rotation_interval_secs": 3600}
		if kind == "manual" {
			delete(body, "rotation_interval_secs")
		} else {
			body["name"] = there + "/automatic"
		}
		v.Do(t, "POST", "/v1/secrets", body).Want(t, http.StatusCreated)
	}
	weak := token(t, v, there) // a role and a token of that name exist, too
	elsewhere := token(t, v, "elsewhere", permission{"*", "elsewhere/*"})
	etag := sealkeeptest.WithHeader("If-None-Match", v.Do(t, "GET", "/v1/secrets/"+there, nil).Want(t, http.StatusOK).Header.Get("ETag"))
	refused := 0
	for _, r := range onName {
		for _, token := range []string{"", "svk_0000000000000000000000000000000000000000000000000", weak, elsewhere} {
			answers := map[string]string{}
			for _, name := range []string{there, missing, there + "/automatic"} {
				if strings.Contains(name, "/") && !strings.HasPrefix(r.path, "/v1/secrets") {
					continue
				}
				var body any
				if r.body != "" {
					body = strings.ReplaceAll(r.body, "NAME", name)
				}
				options := []sealkeeptest.RequestOption{sealkeeptest.WithToken(token), sealkeeptest.WithHeader("X-Request-Id", "same")}
				if r.method == http.MethodGet && strings.HasPrefix(r.path, "/v1/secrets/NAME") && !strings.HasSuffix(r.path, "versions") {
					options = append(options, etag)
				}
				answers[name] = whole(v.Do(t, r.method, strings.ReplaceAll(r.path, "NAME", name), body, options...))
			}
			for name, answer := range answers {
				if answer != answers[missing] {
					t.Errorf("I11: %s %s with token %.8s… tells whether %s exists:\n%s\nor, of what doesn't:\n%s", r.method, r.path, token, name, answer, answers[missing])
				}
			}
			if status := answers[missing][:3]; status != "401" && status != "403" {
				t.Errorf("%s %s with token %.8s…: %s", r.method, r.path, token, answers[missing])
			}
			refused++
		}
	}
	t.Logf("%d pairs of refusals compared", refused)
}

// whole gives an answer as text, but for what differs from answer to answer.
func whole(r *sealkeeptest.Response) string {
	var b strings.Builder
	b.WriteString(http.StatusText(r.Status))
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if name != "Date" {
			b.WriteString("\n" + name + ": " + strings.Join(r.Header[name], ", "))
		}
	}
	return status(r) + b.String() + "\n" + string(r.Body)
}

func status(r *sealkeeptest.Response) string {
	return string([]byte{'0' + byte(r.Status/100), '0' + byte(r.Status/10%10), '0' + byte(r.Status%10)}) + " "
}

// TestI11_AForeignAddressLearnsNothingEither does the same for who isn't on the allowlist, whatever token is sent.
func TestI11_AForeignAddressLearnsNothingEither(t *testing.T) {
	t.Parallel()
	v := setup(t, sealkeeptest.WithAllowedIPs(""))
	seed(t, v)
	same := sealkeeptest.WithHeader("X-Request-Id", "same")
	for what, ask := range map[string]func(name string) *sealkeeptest.Response{
		"read": func(name string) *sealkeeptest.Response { return v.Do(t, "GET", "/v1/secrets/"+name, nil, same) },
		"version": func(name string) *sealkeeptest.Response {
			return v.Do(t, "GET", "/v1/secrets/"+name+"?version=1", nil, same)
		},
		"verify": func(name string) *sealkeeptest.Response {
			return v.Do(t, "POST", "/v1/secrets/"+name+"/verify", map[string]any{"value": "val"}, same)
		},
		"batch": func(name string) *sealkeeptest.Response {
			return v.Do(t, "POST", "/v1/batch/secrets", map[string]any{"names": []string{name}}, same)
		},
	} {
		exists, missing := ask("a").Want(t, http.StatusForbidden), ask("z")
		if whole(exists) != whole(missing) {
			t.Errorf("I11: %s tells what exists:\n%s\nor:\n%s", what, whole(exists), whole(missing))
		}
	}
}

// TestBatch_LeavesOutMissingAndDeniedAlike compares batches in which a name is there and one in which it isn't.
func TestBatch_LeavesOutMissingAndDeniedAlike(t *testing.T) {
	t.Parallel()
	v := setup(t, sealkeeptest.WithReadAuth("ip+token"))
	seed(t, v)
	v.Do(t, "POST", "/v1/secrets", map[string]any{"name": "hidden", "kind": "manual", "value": "val"}).Want(t, http.StatusCreated)
	reader := sealkeeptest.WithToken(token(t, v, "reader", permission{"read", "a"}))
	ask := func(names ...string) string {
		return whole(v.Do(t, "POST", "/v1/batch/secrets", map[string]any{"names": names}, reader, sealkeeptest.WithHeader("X-Request-Id", "same")).Want(t, http.StatusOK))
	}
	if denied, missing := ask("hidden", "a"), ask("absent", "a"); denied != missing || !strings.Contains(denied, `"val"`) {
		t.Errorf("denied:\n%s\nmissing:\n%s", denied, missing)
	}
	vaulttest.Eventually(t, "each name has its record", func() bool { return len(v.Audit(t, "same")) == 4 })
}
