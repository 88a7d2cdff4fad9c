package api

import (
	"net/http"
	"strings"

	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// succeeds goes through what works.
func (w *walk) succeeds() {
	create := func(body string) map[string]any {
		return w.want(201, step{method: "POST", path: "/v1/secrets", body: body})
	}
	get := func(path string, headers ...string) map[string]any {
		return w.want(200, step{method: "GET", path: path, headers: headers})
	}
	create(`{"name":"plain/a","kind":"manual","value":"v"}`)
	create(`{"name":"plain/b","kind":"manual","value_base64":"AAEC/w==","custom_metadata":{"team":"payments"}}`)
	create(`{"name":"plain/c","kind":"manual","username":"user","password":"pass","description":"a pair","grace_period_secs":60}`)
	create(`{"name":"plain/auto","kind":"automatic","rotation_interval_secs":3600,"grace_period_secs":60,"target":null}`)
	// Who may create and not read gets no value.
	w.want(201, step{method: "POST", path: "/v1/secrets", body: `{"name":"plain/d","kind":"manual","value":"v"}`, from: foreign})

	for _, name := range []string{"plain/a", "plain%2Fa", "plain/b", "plain/c", "plain/auto", "plain/d"} {
		get("/v1/secrets/" + name)
		get("/v1/secrets/" + name + "/versions")
	}
	etag := get("/v1/secrets/plain/a")["etag"].(string)
	w.want(304, step{method: "GET", path: "/v1/secrets/plain/a", headers: []string{"If-None-Match: " + etag}})
	w.want(200, step{method: "PUT", path: "/v1/secrets/plain/a", body: `{"value":"w","grace_period_secs":60}`, headers: []string{"If-Match: " + etag}})
	get("/v1/secrets/plain/a?version=1")
	get("/v1/secrets/plain/a/versions")
	w.want(200, step{method: "PUT", path: "/v1/secrets/plain/a", body: `{"description":null,"custom_metadata":null}`})
	w.want(200, step{method: "POST", path: "/v1/secrets/plain/auto/rotate"})
	w.want(200, step{method: "POST", path: "/v1/secrets/plain/auto/rotate", body: `{}`, from: foreign})
	for _, body := range []string{`{"value":"v"}`, `{"value":"no"}`, `{"value_base64":"dw=="}`} {
		w.want(200, step{method: "POST", path: "/v1/secrets/plain/a/verify", body: body})
	}
	w.want(200, step{method: "POST", path: "/v1/batch/secrets", body: `{"names":["plain/a","plain/b","plain/c","none","plain/a"]}`})
	next := get("/v1/secrets?prefix=plain/&limit=2")["next_cursor"].(string)
	get("/v1/secrets?prefix=plain/&limit=2&cursor=" + next)
	get("/v1/secrets")

	w.want(201, step{method: "POST", path: "/v1/roles", body: `{"name":"r","description":"d","is_admin":false,"permissions":[{"action":"read","path":"plain/*"},{"action":"*","path":"*"}]}`})
	w.want(201, step{method: "POST", path: "/v1/roles", body: `{"name":"boss","is_admin":true,"permissions":[]}`})
	get("/v1/roles")
	get("/v1/roles/r")
	w.want(200, step{method: "PUT", path: "/v1/roles/r/permissions", body: `{"permissions":[{"action":"rotate","path":"plain/auto"}]}`})
	w.want(201, step{method: "POST", path: "/v1/tokens", body: `{"name":"t","role":"r","expires_in_secs":60}`})
	w.want(201, step{method: "POST", path: "/v1/tokens", body: `{"name":"forever","role":"boss"}`})
	get("/v1/tokens")
	for _, name := range []string{"t", "forever"} {
		w.want(204, step{method: "DELETE", path: "/v1/tokens/" + name})
	}
	get("/v1/tokens")
	for _, name := range []string{"r", "boss"} {
		w.want(204, step{method: "DELETE", path: "/v1/roles/" + name})
	}
	get("/v1/audit?limit=1000")
	get("/v1/status")
	get("/healthz")
	get("/readyz")
	w.want(204, step{method: "DELETE", path: "/v1/secrets/plain/d"})
}

// refused goes through what every operation refuses alike.
func (w *walk) refused(endpoints map[string]endpoint) {
	for id, e := range endpoints {
		documents := func(status int) bool { return e.op.Responses.Status(status) != nil }
		s := plain[id]
		if documents(401) {
			anonymous := s
			anonymous.anonymous = true
			w.want(401, anonymous)
			invalid := s
			invalid.token = "svk_" + strings.Repeat("0", 49)
			w.want(401, invalid)
		}
		if documents(403) && !strings.HasPrefix(reason(id, 403), "every valid token") && !strings.HasSuffix(id, "Job") {
			weak := s
			weak.token = w.weak
			if id == "readBatch" || id == "fetchValue" { // by the address alone, before names are decided one by one or the token is looked up
				weak.token, weak.from = "", foreign
			}
			w.want(403, weak)
		}
		if documents(413) {
			long := s
			long.body = `{"value":"` + strings.Repeat("a", 1<<20) + `"}`
			w.want(413, long)
		}
		if documents(415) {
			typed := s
			typed.headers = []string{"Content-Type: text/plain"}
			w.want(415, typed)
		}
		odd := s
		if odd.body != "" {
			odd.body = `{"nonsense":1}`
		} else if strings.HasPrefix(s.path, "/v1/") {
			odd.path += "?nonsense=1"
		} else {
			odd.body = `{}`
		}
		w.want(400, odd)
	}
	for _, s := range []step{
		{method: "GET", path: "/v1/nothing"},
		{method: "GET", path: "/"},
		{method: "GET", path: "/v1/secrets/plain/a/explain"},
	} {
		w.want(404, s)
	}
	for _, s := range []step{
		{method: "PATCH", path: "/v1/secrets/plain/a"},
		{method: "GET", path: "/v1/secrets/plain/a/rotate"},
		{method: "POST", path: "/v1/status"},
		{method: "DELETE", path: "/v1/secrets"},
		{method: "POST", path: "/healthz"},
	} {
		w.want(405, s)
	}
	w.want(400, step{method: "GET", path: "/v1//nothing"})
}

// misses goes through what isn't there, and what the state of things forbids.
func (w *walk) misses() {
	for _, s := range []step{
		{method: "GET", path: "/v1/secrets/none"},
		{method: "GET", path: "/v1/secrets/plain/a?version=99"},
		{method: "PUT", path: "/v1/secrets/none", body: `{"value":"v"}`},
		{method: "DELETE", path: "/v1/secrets/none"},
		{method: "POST", path: "/v1/secrets/none/rotate"},
		{method: "POST", path: "/v1/secrets/none/verify", body: `{"value":"v"}`},
		{method: "GET", path: "/v1/secrets/none/versions"},
		{method: "POST", path: "/v1/secrets/none/rollback", body: `{"version":1}`},
		{method: "POST", path: "/v1/secrets/plain/a/rollback", body: `{"version":99}`},
		{method: "POST", path: "/v1/secrets/none/pause"},
		{method: "POST", path: "/v1/secrets/none/resume"},
		{method: "GET", path: "/v1/secrets/none/jobs"},
		plain["readJob"], plain["retryJob"], plain["cancelJob"],
		{method: "GET", path: "/v1/roles/none"},
		{method: "DELETE", path: "/v1/roles/none"},
		{method: "PUT", path: "/v1/roles/none/permissions", body: `{"permissions":[]}`},
		{method: "POST", path: "/v1/tokens", body: `{"name":"x","role":"none"}`},
		{method: "DELETE", path: "/v1/tokens/none"},
	} {
		w.want(404, s)
	}
	stale := []string{`If-Match: "1-0190a6c2-7d3e-4b1a-9c57-2f6d8e4b1a90"`}
	w.want(412, step{method: "PUT", path: "/v1/secrets/plain/a", body: `{"value":"x"}`, headers: stale})
	w.want(412, step{method: "DELETE", path: "/v1/secrets/plain/a", headers: stale})
	for _, s := range []step{
		{method: "POST", path: "/v1/secrets", body: `{"name":"plain/a","kind":"manual","value":"v"}`},
		{method: "POST", path: "/v1/secrets/plain/a/rotate"},
		{method: "POST", path: "/v1/secrets/plain/a/pause"},
		{method: "POST", path: "/v1/secrets/plain/a/resume"},
		{method: "POST", path: "/v1/roles", body: `{"name":"weak","permissions":[]}`},
		{method: "DELETE", path: "/v1/roles/weak"},
		{method: "POST", path: "/v1/tokens", body: `{"name":"weak","role":"weak"}`},
		{method: "DELETE", path: "/v1/tokens/bootstrap"}, // the last one of an administrator
	} {
		w.want(409, s)
	}
	for range 16 {
		w.send(step{method: "PUT", path: "/v1/secrets/plain/c", body: `{"password":"` + strings.Repeat("p", 1+int(w.serial())) + `"}`})
	}
	w.want(409, step{method: "PUT", path: "/v1/secrets/plain/c", body: `{"password":"one too many"}`})
}

func (w *walk) serial() int64 { w.n++; return w.n }

// damaged goes through what happens to rows that don't verify.
func (w *walk) damaged() {
	w.want(201, step{method: "POST", path: "/v1/secrets", body: `{"name":"damaged","kind":"automatic","username":"u","rotation_interval_secs":60}`})
	w.vault.DB.Exec(w.t, `
		UPDATE vault.secret_versions SET ciphertext = set_byte(ciphertext, 0, get_byte(ciphertext, 0) # 1)
		WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = 'damaged')`)
	w.want(500, step{method: "GET", path: "/v1/secrets/damaged"})
	w.want(500, step{method: "POST", path: "/v1/batch/secrets", body: `{"names":["plain/a","damaged"]}`})
	w.want(500, step{method: "PUT", path: "/v1/secrets/damaged", body: `{"password":"p"}`})
	w.want(500, step{method: "POST", path: "/v1/secrets/damaged/rotate"})
	w.want(503, step{method: "POST", path: "/v1/secrets/damaged/verify", body: `{"value":"p"}`})
	w.want(500, step{method: "POST", path: "/v1/secrets/damaged/rollback", body: `{"version":2}`})
	w.vault.DB.Exec(w.t, `UPDATE vault.secrets SET custom_metadata = '{' WHERE name = 'damaged';
		INSERT INTO vault.rotation_jobs (id, secret_id, reason, due_at, base_version, run_at)
		SELECT 'd0000000-0000-4000-8000-000000000000', id, 'manual', now(), 1, now() FROM vault.secrets WHERE name = 'damaged'`)
	const job = "/v1/jobs/d0000000-0000-4000-8000-000000000000"
	for _, s := range []step{
		{method: "GET", path: "/v1/secrets"},
		{method: "GET", path: "/v1/jobs"},
		{method: "GET", path: job},
		{method: "POST", path: job + "/retry"},
		{method: "POST", path: job + "/cancel"},
		{method: "GET", path: "/v1/secrets/damaged/jobs"},
		{method: "POST", path: "/v1/secrets/damaged/pause"},
		{method: "POST", path: "/v1/secrets/damaged/resume"},
	} {
		w.want(500, s)
	}
	w.vault.DB.Exec(w.t, "UPDATE vault.secrets SET custom_metadata = NULL WHERE name = 'damaged'; DELETE FROM vault.rotation_jobs WHERE id = 'd0000000-0000-4000-8000-000000000000'")
}

// unavailable goes through everything once more while there is no database.
func (w *walk) unavailable(endpoints map[string]endpoint) {
	w.proxy.Refuse(true)
	w.proxy.CutAll()
	vaulttest.Eventually(w.t, "the vault knows that it has no database", func() bool {
		status, _, _ := w.send(plain["ready"])
		return status == http.StatusServiceUnavailable
	})
	for id, e := range endpoints {
		if e.op.Responses.Status(503) != nil {
			w.want(503, plain[id])
		}
	}
	w.want(200, plain["health"])
	w.proxy.Refuse(false)
	vaulttest.Eventually(w.t, "the vault serves again", func() bool {
		status, _, _ := w.send(plain["readSecret"])
		return status == http.StatusOK
	})
}
