package api

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

// rotates goes through what rotators make, as far as it is asked for here: there is no rotator.
func (w *walk) rotates() {
	post := func(status int, path, body string, headers ...string) map[string]any {
		return w.want(status, step{method: "POST", path: path, body: body, headers: headers})
	}
	post(201, "/v1/secrets", `{"name":"plain/sign","kind":"manual","value":"a key","login_hosts":["db1.example.com"]}`)
	post(201, "/v1/secrets", `{"name":"plain/cron","kind":"automatic","rotation_schedule":{"cron":"0 3 * * SUN","time_zone":"Europe/Berlin","window_secs":7200,"missed":"wait"},
		"password_policy":{"length":32,"alphabet":null,"classes":["lower","upper"]},"rotate_on_create":true}`)
	post(201, "/v1/secrets", `{"name":"plain/db","kind":"automatic","username":"app","password":"first","rotation_interval_secs":3600,
		"target":{"type":"postgres","hosts":["db1.example.com:5432"],"mode":"single"}}`)
	post(201, "/v1/secrets", `{"name":"plain/hook","kind":"automatic","rotation_interval_secs":3600,"grace_period_secs":60,
		"target":{"type":"webhook","url":"https://example.com/rotated","signing_secret":"plain/sign"}}`)
	w.want(200, step{method: "GET", path: "/v1/secrets?prefix=plain/"})
	w.want(200, step{method: "PUT", path: "/v1/secrets/plain/cron", body: `{"rotation_schedule":null,"rotation_interval_secs":60,"password_policy":null,"login_hosts":null,"target":null}`})

	// At once, and once.
	key := "Idempotency-Key: 0190a6c2-7d3e-4b1a-9c57-2f6d8e4b1a90"
	post(200, "/v1/secrets/plain/auto/rotate", "", key)
	post(200, "/v1/secrets/plain/auto/rotate", "", key)
	post(409, "/v1/secrets/plain/cron/rotate", "", key)
	version := post(200, "/v1/secrets/plain/auto/rotate?wait=0", "")["version"].(float64)
	post(200, "/v1/secrets/plain/auto/rollback", fmt.Sprintf(`{"version":%d}`, int(version)-1))
	post(409, "/v1/secrets/plain/auto/rollback", fmt.Sprintf(`{"version":%d}`, int(version)+1))
	w.want(200, step{method: "POST", path: "/v1/secrets/plain/auto/rollback", body: fmt.Sprintf(`{"version":%d}`, int(version)), from: foreign})
	post(200, "/v1/secrets/plain/auto/pause", "")
	post(200, "/v1/secrets/plain/auto/resume", "{}")

	// By a job.
	id := post(202, "/v1/secrets/plain/hook/rotate", "")["id"].(string)
	if again := post(202, "/v1/secrets/plain/hook/rotate?wait=1", "")["id"]; again != id {
		w.t.Errorf("job %s, then %s", id, again)
	}
	for _, path := range []string{
		"/v1/jobs", "/v1/jobs?state=open&prefix=plain/&limit=1", "/v1/jobs?state=dead", "/v1/jobs/" + id, "/v1/secrets/plain/hook/jobs?state=open&limit=1", "/v1/rotation",
	} {
		w.want(200, step{method: "GET", path: path})
	}
	w.want(201, step{method: "POST", path: "/v1/roles", body: `{"name":"reads","permissions":[{"action":"read","path":"plain/*"}]}`})
	reads := post(201, "/v1/tokens", `{"name":"reads","role":"reads"}`)["token"].(string)
	for _, change := range []string{"/retry", "/cancel"} {
		w.want(403, step{method: "POST", path: "/v1/jobs/" + id + change, token: reads})
	}
	w.want(403, step{method: "GET", path: "/v1/secrets/elsewhere/jobs", token: reads})
	post(200, "/v1/jobs/"+id+"/retry", "")
	w.vault.DB.Exec(w.t, "UPDATE vault.rotation_jobs SET step = 'applying'")
	w.want(409, step{method: "DELETE", path: "/v1/secrets/plain/hook"})
	post(409, "/v1/jobs/"+id+"/cancel", "")
	w.vault.DB.Exec(w.t, "UPDATE vault.rotation_jobs SET step = 'prepared', dead_at = now(), class = 'permanent', error = 'no'")
	post(409, "/v1/secrets/plain/hook/rotate", "")
	w.want(200, step{method: "GET", path: "/v1/jobs?state=dead"})

	// Who waits is told when it is over.
	post(200, "/v1/jobs/"+id+"/retry", "")
	w.waits(id)
	post(409, "/v1/jobs/"+id+"/retry", "")
	w.want(200, step{method: "GET", path: "/v1/jobs?state=completed"})

	w.want(200, step{method: "PUT", path: "/v1/secrets/plain/hook", body: `{"value":"put there by hand"}`})
	post(202, "/v1/secrets/plain/hook/rollback", `{"version":1}`)
	w.want(200, step{method: "GET", path: "/v1/secrets/plain/hook/versions"})

	post(200, "/v1/rotation/pause", "")
	w.want(200, step{method: "GET", path: "/v1/status"})
	post(200, "/v1/rotation/resume", "{}")
}

// waits asks for a rotation whose job is cancelled meanwhile.
func (w *walk) waits(id string) {
	var wait sync.WaitGroup
	wait.Go(func() {
		status, header, body := w.send(step{method: "POST", path: "/v1/secrets/plain/hook/rotate?wait=60"})
		if status != http.StatusOK || header.Get("Location") != "/v1/jobs/"+id {
			w.t.Errorf("who waited got %d: %s", status, body)
		}
	})
	time.Sleep(300 * time.Millisecond) // most often it waits by now; if not, it is told at once all the same
	w.want(200, step{method: "POST", path: "/v1/jobs/" + id + "/cancel"})
	wait.Wait()
}

// fetches goes through what receivers of webhooks fetch, with the tokens of events.
func (w *walk) fetches() {
	rotator := w.vault.Rotator(w.t, nil)
	defer rotator.End(w.t)
	w.want(201, step{method: "POST", path: "/v1/secrets", body: `{"name":"fetch/sign","kind":"manual","value":"a key of thirty-two bytes or more"}`})
	event := func(name, given string) (fetch step) {
		w.want(201, step{method: "POST", path: "/v1/secrets", body: fmt.Sprintf(`{"name":%q,"kind":"automatic",%s"rotation_interval_secs":3600,
			"target":{"type":"webhook","url":"https://example.com/rotated","signing_secret":"fetch/sign"}}`, name, given)})
		w.want(202, step{method: "POST", path: "/v1/secrets/" + name + "/rotate"})
		d := rotator.Deliver(w.t, name)
		defer d.Release()
		fetch = plain["fetchValue"]
		fetch.token = string(d.Fetch.Reveal())
		return fetch
	}
	for name, given := range map[string]string{"fetch/text": "", "fetch/pair": `"username":"app",`} {
		fetch := event(name, given)
		foreigner := fetch
		foreigner.from = foreign
		w.want(403, foreigner)
		w.want(200, fetch)
		w.want(401, fetch)
	}
	edited := event("fetch/edited", "")
	w.vault.DB.Exec(w.t, "UPDATE vault.rotation_fetches SET expires_at = expires_at + interval '1 day'")
	w.want(500, edited)
}
