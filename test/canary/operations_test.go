package canary

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
)

// operation is one of the API's, by its operationId in docs/openapi.yaml.
type operation struct {
	id        string
	discloses bool // its answers hold plaintext
	fetches   bool // its token is that of the webhook's event that valid made last
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

// noJob is the path of a job that doesn't exist.
const noJob = "/v1/jobs/0190a6c2-7d3e-4b1a-9c57-2f6d8e4b1a90"

// job gives the path of a job that is open, of a secret that is made if there is none.
func (w *walk) job() string {
	w.t.Helper()
	if w.v.Do(w.t, http.MethodGet, at(targeted), nil, from(listed)).Status == http.StatusNotFound {
		w.must("createSecret", request{http.MethodPost, "/v1/secrets", object{"name": signing, "kind": "manual", "value": w.text("signing key")}})
		w.must("createSecret", request{http.MethodPost, "/v1/secrets", object{
			"name": targeted, "kind": "automatic", "rotation_interval_secs": 3600, "value": w.text("value"), "grace_period_secs": 3600,
			"target": object{"type": "webhook", "url": "https://webhook.invalid/", "signing_secret": signing},
		}})
	}
	return "/v1/jobs/" + w.must("rotateSecret", request{http.MethodPost, at(targeted) + "/rotate", nil}).Text("id")
}

// event takes the rotation of a new secret to where a webhook's receiver is told of it, and keeps the token by which that would fetch the value.
func (w *walk) event() {
	w.t.Helper()
	w.job() // and with it the signing secret
	name := fmt.Sprintf("canary/fetched-%d", w.next())
	w.must("createSecret", request{http.MethodPost, "/v1/secrets", object{
		"name": name, "kind": "automatic", "rotation_interval_secs": 3600, "username": w.text("user name"), "password": w.text("password"),
		"target": object{"type": "webhook", "url": "https://webhook.invalid/", "signing_secret": signing},
	}})
	w.must("rotateSecret", request{http.MethodPost, at(name) + "/rotate", nil})
	rotator := w.v.Rotator(w.t, nil)
	defer rotator.End(w.t)
	d := rotator.Deliver(w.t, name)
	defer d.Release()
	w.fetch = string(d.Fetch.Reveal())
	w.learn("token for fetching", w.fetch)
	w.learn("delivered value", string(d.New.Value.Reveal()))
}

// rollsBack rolls back what has a target, and has a job changed by who may see it and not rotate its secret.
func (w *walk) rollsBack() {
	w.t.Helper()
	job := w.job()
	w.must("createRole", request{http.MethodPost, "/v1/roles", object{"name": "reader", "permissions": []object{{"action": "read", "path": targeted}}}})
	reader := w.must("createToken", request{http.MethodPost, "/v1/tokens", object{"name": "reader", "role": "reader"}}).Text("token")
	for id, path := range map[string]string{"retryJob": job + "/retry", "cancelJob": job + "/cancel"} {
		w.expect(http.StatusForbidden, id, request{http.MethodPost, path, nil}, sealkeeptest.WithToken(reader))
	}
	w.must("cancelJob", request{http.MethodPost, job + "/cancel", nil})
	w.must("updateSecret", request{http.MethodPut, at(targeted), object{"value": w.text("value")}})
	w.expect(http.StatusAccepted, "rollbackSecret", request{http.MethodPost, at(targeted) + "/rollback", object{"version": 1}})
}

// cancelled gives the path of a job that is over.
func (w *walk) cancelled() string {
	job := w.job()
	w.must("cancelJob", request{http.MethodPost, job + "/cancel", nil})
	return job
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
		{
			id: "rollbackSecret", discloses: true,
			valid: func(w *walk) request {
				version := w.must("rotateSecret", request{http.MethodPost, at(automatic) + "/rotate", nil}).Number("version")
				return request{http.MethodPost, at(automatic) + "/rollback", object{"version": int(version) - 1}}
			},
			missing: func(*walk) request { return request{http.MethodPost, missing + "/rollback", object{"version": 1}} },
			conflicting: func(w *walk) request {
				version := w.must("readSecret", request{http.MethodGet, at(opaque), nil}).Number("version")
				return request{http.MethodPost, at(opaque) + "/rollback", object{"version": int(version)}}
			},
		},
		{
			id: "pauseSecret", valid: plain(http.MethodPost, at(automatic)+"/pause"),
			missing: plain(http.MethodPost, missing+"/pause"), conflicting: plain(http.MethodPost, at(opaque)+"/pause"),
		},
		{
			id: "resumeSecret", valid: plain(http.MethodPost, at(automatic)+"/resume"),
			missing: plain(http.MethodPost, missing+"/resume"), conflicting: plain(http.MethodPost, at(opaque)+"/resume"),
		},
		{id: "listSecretJobs", valid: get(at(opaque) + "/jobs"), missing: get(missing + "/jobs")},
		{id: "listJobs", valid: get("/v1/jobs?prefix=canary/")},
		{id: "readJob", valid: func(w *walk) request { return request{http.MethodGet, w.job(), nil} }, missing: get(noJob)},
		{
			id: "retryJob", valid: func(w *walk) request { return request{http.MethodPost, w.job() + "/retry", nil} },
			missing: plain(http.MethodPost, noJob+"/retry"), conflicting: func(w *walk) request { return request{http.MethodPost, w.cancelled() + "/retry", nil} },
		},
		{
			id: "cancelJob", valid: func(w *walk) request { return request{http.MethodPost, w.job() + "/cancel", nil} },
			missing: plain(http.MethodPost, noJob+"/cancel"), conflicting: func(w *walk) request { return request{http.MethodPost, w.cancelled() + "/cancel", nil} },
		},
		{id: "readRotation", valid: get("/v1/rotation")},
		{id: "fetchValue", discloses: true, fetches: true, valid: func(w *walk) request {
			w.event()
			return request{http.MethodGet, "/v1/rotation/fetch", nil}
		}},
		{id: "pauseRotation", valid: plain(http.MethodPost, "/v1/rotation/pause")},
		{id: "resumeRotation", valid: plain(http.MethodPost, "/v1/rotation/resume")},
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
