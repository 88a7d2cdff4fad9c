package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
)

const aTarget = `{"type":"webhook","url":"https://example.com/rotated","signing_secret":"app/sign"}`

// jobOf reads the id of a job out of what was printed.
func jobOf(r result) string {
	id := regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).FindString(r.stdout)
	if id == "" {
		r.t.Fatalf("no job in:\n%s", r.stdout)
	}
	return id
}

func TestMainJob_RotationByRequest(t *testing.T) {
	t.Parallel()
	v := sealkeeptest.New(t)
	sh := adminShell(t, v)
	sh.run("secret create plain --rotation-interval 30d --grace-period 1d").ok()
	sh.run("secret rotate plain").ok().shows("rotated plain, version 2")
	sh.run("secret rotate plain --idempotency-key k").ok().shows("version 3")
	sh.run("secret rotate plain --idempotency-key k").ok().shows("version 3")
	sh.run("secret rotate plain --idempotency-key k --json").ok().shows(`"version": 3`).hides(`"value"`)
	sh.run("secret rollback plain").ends(2).says("--version")
	sh.run("secret rollback plain --version 9").ends(1).says("no valid version 9")
	sh.run("secret rollback plain --version 2 --idempotency-key k").ends(1).says("came with another request")
	sh.run("secret rollback plain --version 2").ok().shows("rolled back plain, version 4")
	sh.run("secret pause plain").ok().shows("paused plain")
	sh.run("secret list").ok().shows("paused")
	sh.run("secret resume plain").ok().shows("resumed plain, due at 2")

	sh.pipe("key", "secret", "create", "app/sign").ok()
	sh.pipe(aTarget, "secret", "create", "hook", "--rotation-interval", "30d", "--grace-period", "1d", "--target", "-").ok()
	sh.run("secret pause app/sign").ends(1).says("only automatic secrets")
	id := jobOf(sh.run("secret rotate hook").ok().shows("queued"))
	sh.run("secret rotate hook --wait 1s").ends(1).shows("queued", id)
	sh.run("secret rotate hook --json").ok().shows(`"state": "open"`, id)
	sh.run("secret rollback hook --version 1").ends(1).says("current one already")
	sh.run("jobs list").ok().shows(id, "hook", "manual", "queued")
	sh.run("jobs list --json --secret hook --state open --limit 1").ok().shows(`"reason": "manual"`)
	sh.run("jobs list ho").ok().shows(id)
	sh.run("jobs list x").ok().shows("no jobs").hides(id)
	sh.run("jobs list --state dead").ok().shows("no jobs")
	sh.run("jobs show "+id).ok().shows("hook", "open", "base version")
	v.DB.Exec(t, "UPDATE vault.rotation_jobs SET dead_at = now(), class = 'permanent', error = 'it says no'")
	sh.run("secret rotate hook").ends(1).says("`sealkeep jobs retry` or `sealkeep jobs cancel` it")
	sh.run("jobs list --state dead").ok().shows(id, "dead", "permanent")
	sh.run("jobs show "+id).ok().shows("it says no", "permanent")
	sh.run("jobs retry " + id + " --json").ok().shows(`"state": "open"`)
	sh.run("jobs cancel " + id).ok().shows("cancelled")
	sh.run("jobs cancel " + id).ends(1).says("`sealkeep secret rotate` asks for another one")
	sh.run("jobs show 0190a6c2-7d3e-4b1a-9c57-2f6d8e4b1a90").ends(1).says("no such job 0190a6c2")

	sh.run("rotation status").ok().shows("paused", "no", "open jobs")
	sh.run("rotation pause").ok().shows("yes, since 2")
	sh.run("rotation status --json").ok().shows(`"paused": true`, `"verified": true`)
	sh.run("rotation resume").ok().shows("no, since 2")
	v.DB.Exec(t, "UPDATE vault.rotation_control SET paused = true")
	sh.run("rotation status").ok().shows("changed by somebody else")
}

func TestSecret_WhatIsSaidOfRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := filepath.Join(dir, "target.json")
	if err := os.WriteFile(target, []byte(aTarget+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	const answer = `{"name":"a","kind":"automatic","format":"opaque","version":1,"created_at":"2026-01-31T12:00:00.000000Z"}`
	server := newAnswering(t, 201, nil, answer)
	sh := server.shell(t)
	sent := func(args ...string) map[string]any {
		t.Helper()
		sh.pipe("", args...).ok()
		var body map[string]any
		if err := json.Unmarshal([]byte(*server.body.Load()), &body); err != nil {
			t.Fatal(err)
		}
		return body
	}
	same := func(got any, want string) {
		t.Helper()
		text, err := json.Marshal(got)
		if err != nil || string(text) != want {
			t.Errorf("sent %s, want %s", text, want)
		}
	}
	body := sent("secret", "create", "a", "--cron", "0 3 * * SUN", "--time-zone", "Europe/Berlin", "--window", "2h", "--missed", "wait",
		"--password-length", "32", "--password-classes", "lower,upper", "--login-host", "db1:5432", "--login-host", "db2:5432",
		"--target", target, "--rotate-on-create", "--idempotency-key", "k")
	same(body["kind"], `"automatic"`)
	same(body["rotation_schedule"], `{"cron":"0 3 * * SUN","missed":"wait","time_zone":"Europe/Berlin","window_secs":7200}`)
	same(body["password_policy"], `{"alphabet":"","classes":["lower","upper"],"length":32}`)
	same(body["login_hosts"], `["db1:5432","db2:5432"]`)
	same(body["target"], `{"signing_secret":"app/sign","type":"webhook","url":"https://example.com/rotated"}`)
	same(body["rotate_on_create"], "true")
	if got := server.header.Load().Get("Idempotency-Key"); got != "k" {
		t.Errorf("the key is %q", got)
	}
	if _, given := body["rotation_interval_secs"]; given {
		t.Error("a new secret without an interval is told one")
	}

	body = sent("secret", "put", "a", "--cron", "@daily", "--no-target", "--no-login-hosts", "--no-password-policy")
	same(body["rotation_schedule"], `{"cron":"@daily"}`)
	for _, field := range []string{"rotation_interval_secs", "target", "login_hosts", "password_policy"} {
		if value, given := body[field]; !given || value != nil {
			t.Errorf("%s is %v, given: %v", field, value, given)
		}
	}
	body = sent("secret", "put", "a", "--rotation-interval", "1d")
	if value, given := body["rotation_schedule"]; !given || value != nil {
		t.Errorf("an interval leaves the expression: %v", value)
	}

	calls := server.calls.Load()
	for command, says := range map[string]string{
		"secret create a --kind automatic --window 1h":            "go with --cron",
		"secret put a --missed wait":                              "go with --cron",
		"secret create a --cron @daily --rotation-interval 1d":    "not both",
		"secret put a --target x --no-target":                     "not both",
		"secret put a --login-host x --no-login-hosts":            "not both",
		"secret put a --password-length 5 --no-password-policy":   "not both",
		"secret create a --target - --username u":                 "--target - takes standard input",
		"secret create a --cron @daily --value-file - --target -": "--target - takes standard input",
		"secret rotate a --wait 5":                                "of what? Name the unit",
		"jobs show a":                                             "a job's id is a UUID",
		"jobs list a --secret b":                                  "a prefix or --secret",
		"jobs list --state gone":                                  "--state takes open, dead or completed",
		"jobs list --limit 0":                                     "--limit is at least 1",
		"rotation pause all":                                      "takes no arguments",
	} {
		sh.run(command).ends(2).says(says)
	}
	sh.run("secret put a --target " + bad).ends(1).says("--target: it is no JSON object").hides("hunter2")
	sh.run("secret put a --target " + dir + "/none").ends(1).says("--target: ")
	if n := server.calls.Load(); n != calls {
		t.Errorf("%d requests were sent", n-calls)
	}
}

// A long wait is spent asking, and ends with the job.
func TestRotate_WaitsForItsJob(t *testing.T) {
	t.Parallel()
	const id = "0190a6c2-7d3e-4b1a-9c57-2f6d8e4b1a90"
	answer := func(state, outcome string) string {
		return `{"id":"` + id + `","secret":"a","reason":"manual","state":"` + state + `","step":"queued","running":false,
			"due_at":"2026-01-31T12:00:00.000000Z","enqueued_at":"2026-01-31T12:00:00.000000Z","base_version":1,"attempt":1,
			"class":"permanent","error":"it says no","outcome":` + outcome + `}`
	}
	for name, c := range map[string]struct {
		body, shows string
		status      int
	}{
		"rotated":    {answer("completed", `"rotated"`), "rotated a", 0},
		"superseded": {answer("completed", `"superseded"`), "not rotated: the job ended superseded", 1},
		"dead":       {answer("dead", "null"), "dead: permanent: it says no", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newAnswering(t, 200, nil, c.body)
			server.shell(t).run("secret rotate a --wait 5m").ends(c.status).shows(c.shows)
			if uri := *server.uri.Load(); !strings.HasSuffix(uri, "/rotate?wait=30") {
				t.Errorf("it asked %s", uri)
			}
		})
	}
}
