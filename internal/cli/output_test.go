package cli

import (
	"encoding/json"
	"strings"
	"testing"
)

const (
	opaque   = `{"name":"a/b","kind":"manual","format":"opaque","version":3,"value":"line\nCANARY","created_at":"2026-01-02T03:04:05Z"}`
	binary   = `{"name":"a/b","kind":"manual","format":"opaque","version":3,"value_base64":"/wAK","created_at":"2026-01-02T03:04:05Z"}`
	userpass = `{"name":"a/b","kind":"manual","format":"userpass","version":3,"username":"app","password":"p\u00e4ss\u0000","created_at":"2026-01-02T03:04:05Z"}`
)

func getting(t *testing.T, body string) shell {
	t.Helper()
	return newAnswering(t, 200, map[string]string{"ETag": `"3-x"`}, body).shell(t)
}

func TestGet_RawIsExactlyTheBytes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, command, want string }{
		{opaque, "secret get a/b --raw", "line\nCANARY"},
		{binary, "secret get a/b --raw", "\xff\x00\n"},
		{userpass, "secret get a/b --field username", "app"},
		{userpass, "secret get a/b --field password", "päss\x00"},
		{userpass, "secret get a/b --raw --field password", "päss\x00"},
	} {
		if r := getting(t, c.body).run(c.command).ok(); r.stdout != c.want || r.stderr != "" {
			t.Errorf("%s: %q %s", c.command, r.stdout, r.stderr)
		}
	}
	getting(t, userpass).run("secret get a/b --raw").ends(1).says("choose one with --field")
	getting(t, opaque).run("secret get a/b --field password").ends(1).says("--field is for a userpass secret").hides("CANARY")
	getting(t, opaque).run("secret get a/b --field value").ends(2)
	getting(t, opaque).run("secret get a/b --raw --json").ends(2)
}

func TestGet_TableEscapesWhatATerminalWouldObey(t *testing.T) {
	t.Parallel()
	r := getting(t, opaque).run("secret get a/b").ok().shows(`line\nCANARY`, "3-x", "2026-01-02 03:04:05Z")
	if lines := strings.Count(r.stdout, "\n"); lines != 7 {
		t.Errorf("%d lines:\n%s", lines, r.stdout)
	}
	getting(t, binary).run("secret get a/b").ok().shows("value_base64", "/wAK")
	getting(t, userpass).run("secret get a/b").ok().shows("username", "app", `päss\x00`)
}

func TestGet_JSONIsTheAnswerAndItsEntityTag(t *testing.T) {
	t.Parallel()
	r := getting(t, userpass).run("secret get a/b --json").ok()
	var got map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatal(err)
	}
	if got["etag"] != "3-x" || got["password"] != "päss\x00" || got["version"] != 3.0 || len(got) != 8 {
		t.Errorf("%v", got)
	}
}

func TestGet_Version(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 200, nil, opaque)
	server.shell(t).run("secret get a/b --version 2").ok()
	if got := *server.uri.Load(); got != "/v1/secrets/a/b?version=2" {
		t.Errorf("asked for %s", got)
	}
}

func TestVerify_ExitStatus(t *testing.T) {
	t.Parallel()
	valid := getting(t, `{"valid":true,"version":2}`)
	valid.pipe("x", "secret", "verify", "a/b").ends(0).shows("valid, version 2")
	valid.pipe("x", "secret", "verify", "a/b", "--json").ends(0).shows(`"valid": true`)
	if r := valid.pipe("x", "secret", "verify", "a/b", "-q").ends(0); r.stdout+r.stderr != "" {
		t.Errorf("printed %q %q", r.stdout, r.stderr)
	}
	invalid := getting(t, `{"valid":false}`)
	invalid.pipe("x", "secret", "verify", "a/b").ends(1).shows("not valid")
	if r := invalid.pipe("x", "secret", "verify", "a/b", "-q").ends(1); r.stdout+r.stderr != "" {
		t.Errorf("printed %q %q", r.stdout, r.stderr)
	}
	for _, status := range []int{400, 401, 403, 404, 429, 500, 503} {
		newAnswering(t, status, nil, `{"error":"no","code":"no","request_id":"r"}`).shell(t).pipe("x", "secret", "verify", "a/b").ends(2)
	}
	valid.pipe("", "secret", "verify", "a/b").ends(2).says("empty")
	valid.with("VAULT_TOKEN", "hvs.x").pipe("x", "secret", "verify", "a/b").ends(2)
}

func TestList_FollowsThePages(t *testing.T) {
	t.Parallel()
	pages := newPages(t, map[string]string{
		"":   `{"items":[{"name":"a"},{"name":"b"}],"next_cursor":"c1"}`,
		"c1": `{"items":[{"name":"c"}],"next_cursor":""}`,
	})
	pages.run("secret list").ok().shows("a ", "b ", "c ")
	r := pages.run("secret list --json").ok()
	var got struct {
		Items []struct{ Name string } `json:"items"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || len(got.Items) != 3 {
		t.Errorf("%v %s", err, r.stdout)
	}
	pages.run("secret list //").ends(2)
	pages.run("secret list a b").ends(2)
	pages.run("secret list --limit -1").ends(2)
}

func TestToken_ShownOnceAndAlone(t *testing.T) {
	t.Parallel()
	token := newToken(t)
	server := newAnswering(t, 201, nil, `{"name":"ci","role":"deploy","token":"`+token+`","expires_at":"2026-01-02T03:04:05Z"}`)
	sh := server.shell(t)
	if r := sh.run("token create ci --role deploy --raw --expires-in 30d").ok().says("shown once"); r.stdout != token+"\n" {
		t.Errorf("printed %q", r.stdout)
	}
	if got := server.sent(t); got["name"] != "ci" || got["role"] != "deploy" || got["expires_in_secs"] != 2592000.0 {
		t.Errorf("sent %v", got)
	}
	sh.run("token create ci --role deploy").ok().shows(token, "deploy", "2026-01-02")
	sh.run("token create ci --role deploy --json").ok().shows(`"token": "`+token+`"`, `"expires_at": "2026`)
	sh.run("token create ci").ends(2).says("--role is missing")
	sh.run("token create ../x --role deploy").ends(2)
	sh.run("token create ci --role deploy --raw --json").ends(2)
}

func TestRole_Permissions(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 201, nil, `{"name":"deploy","permissions":[{"action":"read","path":"app/*"}]}`)
	sh := server.shell(t)
	sh.run("role create deploy --allow read,update:app/* --allow *:jobs/key").ok().shows("read", "app/*")
	want := `"permissions":[{"action":"read","path":"app/*"},{"action":"update","path":"app/*"},{"action":"*","path":"jobs/key"}]`
	if got := *server.body.Load(); !strings.Contains(got, want) {
		t.Errorf("sent %s", got)
	}
	sh.run("role set deploy --allow-nothing").ok()
	if got := *server.body.Load(); got != `{"permissions":[]}` {
		t.Errorf("sent %s", got)
	}
	for _, command := range []string{
		"role set deploy", "role set deploy --allow read:x --allow-nothing", "role create deploy --allow read",
		"role create deploy --allow fly:app/*", "role create deploy --allow read:*/x", "role create -x",
	} {
		sh.run(command).ends(2)
	}
}
