package canary

import (
	"fmt"
	"net/http"
	"testing"
)

// operation is one of the API's, by its operationId in docs/openapi.yaml.
type operation struct {
	id        string
	discloses bool // its answers hold plaintext
	// valid makes a request that succeeds, with new canaries wherever it takes plaintext.
	valid func(*walk) request
	// These make requests that are answered with 404, 409, and, with an old entity tag, 412; nil where none can be.
	missing, conflicting, moved func(*walk) request
}

func operationByID(t *testing.T, id string) operation {
	t.Helper()
	for _, o := range operations() {
		if o.id == id {
			return o
		}
	}
	t.Fatalf("there is no operation %s", id)
	return operation{}
}

// get makes a request without a body.
func get(path string) func(*walk) request { return plain(http.MethodGet, path) }

func plain(method, path string) func(*walk) request {
	return func(*walk) request { return request{method, path, nil} }
}

// with makes a request with a canary in its body.
func with(method, path, field string) func(*walk) request {
	return func(w *walk) request { return request{method, path, object{field: w.text(field)}} }
}

func operations() []operation {
	const missing = "/v1/secrets/canary/missing"
	create := func(w *walk, name string) request {
		return request{http.MethodPost, "/v1/secrets", object{"name": name, "kind": "manual", "value": w.text("value")}}
	}
	role := func(name string) request {
		return request{http.MethodPost, "/v1/roles", object{"name": name, "permissions": []object{{"action": "read", "path": "canary/*"}}}}
	}
	token := func(name, role string) request {
		return request{http.MethodPost, "/v1/tokens", object{"name": name, "role": role}}
	}
	// made creates something first, for a request that takes it away.
	made := func(kind, id string, prefix string, create func(w *walk, name string) request) func(*walk) request {
		return func(w *walk) request {
			name := fmt.Sprintf("%s%d", kind, w.next())
			w.must(id, create(w, name))
			w.learnKeys() // the row goes, and its key must not have stayed anywhere
			return request{http.MethodDelete, prefix + name, nil}
		}
	}
	return []operation{
		{
			id: "createSecret", discloses: true,
			valid:       func(w *walk) request { return create(w, fmt.Sprintf("canary/made-%d", w.next())) },
			conflicting: func(w *walk) request { return create(w, opaque) },
		},
		{id: "listSecrets", valid: get("/v1/secrets?prefix=canary/")},
		{id: "readSecret", discloses: true, valid: get(at(opaque)), missing: get(missing)},
		{
			id: "updateSecret", valid: with(http.MethodPut, at(opaque), "value"), missing: with(http.MethodPut, missing, "value"),
			moved: with(http.MethodPut, at(opaque), "value"),
			conflicting: func(w *walk) request {
				// One more valid version than there may be.
				for range 16 {
					w.send(operationByID(w.t, "updateSecret"), request{http.MethodPut, at(binary), object{"value_base64": w.binary("value")}})
				}
				return request{http.MethodPut, at(binary), object{"value_base64": w.binary("value")}}
			},
		},
		{
			id: "deleteSecret", valid: made("canary/doomed-", "createSecret", "/v1/secrets/", create),
			missing: plain(http.MethodDelete, missing), moved: plain(http.MethodDelete, at(opaque)),
		},
		{
			id: "rotateSecret", discloses: true, valid: plain(http.MethodPost, at(automatic)+"/rotate"),
			missing: plain(http.MethodPost, missing+"/rotate"), conflicting: plain(http.MethodPost, at(opaque)+"/rotate"),
		},
		{id: "verifySecret", valid: with(http.MethodPost, at(opaque)+"/verify", "value"), missing: with(http.MethodPost, missing+"/verify", "value")},
		{id: "listVersions", valid: get(at(opaque) + "/versions"), missing: get(missing + "/versions")},
		{
			id: "readBatch", discloses: true,
			valid: func(*walk) request {
				return request{http.MethodPost, "/v1/batch/secrets", object{"names": []string{opaque, userpass}}}
			},
		},
		{
			id: "createRole", valid: func(w *walk) request { return role(fmt.Sprintf("role-%d", w.next())) },
			conflicting: func(*walk) request { return role("admin") },
		},
		{id: "listRoles", valid: get("/v1/roles")},
		{id: "readRole", valid: get("/v1/roles/admin"), missing: get("/v1/roles/missing")},
		{
			id: "deleteRole", valid: made("doomed-", "createRole", "/v1/roles/", func(_ *walk, name string) request { return role(name) }),
			missing: plain(http.MethodDelete, "/v1/roles/missing"), conflicting: plain(http.MethodDelete, "/v1/roles/weak"),
		},
		{
			id: "setRolePermissions",
			valid: func(*walk) request {
				return request{http.MethodPut, "/v1/roles/weak/permissions", object{"permissions": []object{{"action": "read", "path": "elsewhere/*"}}}}
			},
			missing: func(*walk) request {
				return request{http.MethodPut, "/v1/roles/missing/permissions", object{"permissions": []object{}}}
			},
		},
		{
			id: "createToken", discloses: true, valid: func(w *walk) request { return token(fmt.Sprintf("token-%d", w.next()), "weak") },
			missing: func(*walk) request { return token("homeless", "missing") }, conflicting: func(*walk) request { return token("weak", "weak") },
		},
		{id: "listTokens", valid: get("/v1/tokens")},
		{
			id: "revokeToken", valid: made("doomed-", "createToken", "/v1/tokens/", func(_ *walk, name string) request { return token(name, "weak") }),
			missing: plain(http.MethodDelete, "/v1/tokens/missing"), conflicting: plain(http.MethodDelete, "/v1/tokens/bootstrap"),
		},
		{id: "listEvents", valid: get("/v1/audit?limit=1000")},
		{id: "status", valid: get("/v1/status")},
		{id: "health", valid: get("/healthz")},
		{id: "ready", valid: get("/readyz")},
	}
}
