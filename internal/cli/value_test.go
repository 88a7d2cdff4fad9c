package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sealkeep/sealkeep/internal/secret"
)

const created = `{"name":"a/b","kind":"manual","format":"opaque","version":1,"value":"CANARY","created_at":"2026-01-02T03:04:05Z"}`

// sent is the body of the last request.
func (a *answering) sent(t *testing.T) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(*a.body.Load()), &fields); err != nil {
		t.Fatalf("%s: %v", *a.body.Load(), err)
	}
	return fields
}

func TestValue_StandardInputLosesOneNewlineOfText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, exact, field, want string }{
		{"secret\n", "", "value", "secret"},
		{"secret", "", "value", "secret"},
		{"secret\r\n", "", "value", "secret"},
		{"secret\n\n", "", "value", "secret\n"},
		{"two\nlines\n", "", "value", "two\nlines"},
		{" spaces \n", "", "value", " spaces "},
		{"secret\n", "--exact", "value", "secret\n"},
		{"\n", "--exact", "value", "\n"},
		{"\xff\n", "", "value_base64", "/wo="},
		{"a\x00b\n", "", "value_base64", "YQBiCg=="},
		{"\"quoted\" <&> \u2028 \U0001f511\n", "", "value", "\"quoted\" <&> \u2028 \U0001f511"},
	} {
		server := newAnswering(t, 201, nil, created)
		args := []string{"secret", "create", "a/b"}
		if c.exact != "" {
			args = append(args, c.exact)
		}
		server.shell(t).pipe(c.in, args...).ok()
		if got := server.sent(t); got[c.field] != c.want || len(got) != 3 {
			t.Errorf("%q %s: sent %v", c.in, c.exact, got)
		}
		server.shell(t).pipe(c.in, append(args, "--value-file", "-")...).ok()
		if got := server.sent(t); got[c.field] != c.want {
			t.Errorf("%q %s --value-file -: sent %v", c.in, c.exact, got)
		}
	}
}

func TestValue_FilesAreTakenAsTheyAre(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "value")
	for _, c := range []struct{ content, field, want, note string }{
		{"secret", "value", "secret", ""},
		{"one line\n", "value", "one line\n", "the newline at its end is part of the value"},
		{"-----BEGIN\nx\n-----END\n", "value", "-----BEGIN\nx\n-----END\n", ""},
		{"\xff\xfe\n", "value_base64", "//4K", ""},
	} {
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		server := newAnswering(t, 201, nil, created)
		r := server.shell(t).pipe("not this", "secret", "create", "a/b", "--value-file", file).ok()
		if got := server.sent(t); got[c.field] != c.want {
			t.Errorf("%q: sent %v", c.content, got)
		}
		if c.note == "" && r.stderr != "" {
			t.Errorf("%q: %s", c.content, r.stderr)
		}
		r.says(c.note)
	}
}

func TestValue_MissingOrTooLong(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 201, nil, created)
	sh := server.shell(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sh.pipe("", "secret", "create", "a/b").ends(1).says("standard input is empty", "--value-file")
	sh.pipe("\n", "secret", "create", "a/b").ends(1).says("standard input is empty")
	sh.pipe("", "secret", "create", "a/b", "--value-file", empty).ends(1).says("--value-file", "is empty")
	sh.pipe("", "secret", "create", "a/b", "--value-file", empty+".gone").ends(1).says("--value-file", "no such file")
	sh.pipe(strings.Repeat("x", secret.MaxValueBytes+3), "secret", "create", "a/b").ends(1).says("longer than 65536 bytes")
	if n := server.calls.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	sh.pipe(strings.Repeat("\x01", secret.MaxValueBytes)+"\n", "secret", "create", "a/b").ok()
	if got, _ := server.sent(t)["value"].(string); len(got) != secret.MaxValueBytes {
		t.Errorf("%d bytes were sent", len(got))
	}
}

func TestI1_ValuesAreNoArguments(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 201, nil, created)
	for _, args := range [][]string{
		{"secret", "create", "a/b", "CANARY"},
		{"secret", "put", "a/b", "CANARY"},
		{"secret", "verify", "a/b", "CANARY"},
		{"secret", "create", "a/b", "--value", "CANARY"},
		{"secret", "create", "a/b", "--value=CANARY"},
		{"secret", "put", "a/b", "--password=CANARY"},
	} {
		server.shell(t).pipe("", args...).ends(2).says("never taken from the command line", "--value-file").hides("CANARY")
	}
	server.shell(t).pipe("", "secret", "create", "a/b", "-vCANARY").ends(2).hides("CANARY")
	server.shell(t).pipe("", "secret", "get", "a/b", "CANARY").ends(2).hides("CANARY")
	if n := server.calls.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestI1_ChangesDontPrintWhatTheSecretHolds(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 201, map[string]string{"ETag": `"1-x"`}, created)
	sh := server.shell(t)
	for _, command := range []string{"secret create a/b", "secret put a/b", "secret rotate a/b"} {
		sh.pipe("CANARY", strings.Fields(command)...).ok().shows("a/b, version 1").hides("CANARY")
		sh.pipe("CANARY", strings.Fields(command+" --json")...).ok().shows(`"version": 1`, `"etag": "1-x"`).hides("CANARY")
	}
}

func TestValue_UserpassIsSentAsAPair(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 201, nil, created)
	sh := server.shell(t)
	sh.pipe("pw\n", "secret", "create", "a/b", "--username", "app").ok()
	if got := server.sent(t); got["username"] != "app" || got["password"] != "pw" || got["value"] != nil {
		t.Errorf("sent %v", got)
	}
	file := filepath.Join(t.TempDir(), "user")
	if err := os.WriteFile(file, []byte("app\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sh.pipe("pw\n", "secret", "create", "a/b", "--username-file", file).ok()
	if got := server.sent(t); got["username"] != "app" || got["password"] != "pw" {
		t.Errorf("sent %v", got)
	}
	sh.pipe("pw\n", "secret", "put", "a/b", "--as-password").ok()
	if got := server.sent(t); got["password"] != "pw" || len(got) != 1 {
		t.Errorf("sent %v", got)
	}
	sh.pipe("\xff", "secret", "create", "a/b", "--username", "app").ends(1).says("isn't text")
	sh.pipe("pw", "secret", "put", "a/b", "--as-password", "--username", "app").ends(2).says("not both")
}

func TestValue_SettingsNeedNoValue(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 200, nil, created)
	sh := server.shell(t)
	sh.pipe("", "secret", "put", "a/b", "--description", "", "--grace-period", "90d", "--no-metadata", "--if-match", "3-x").ok().
		shows("version 1: settings only; the value is unchanged\n")
	got := server.sent(t)
	custom, there := got["custom_metadata"]
	if len(got) != 3 || got["description"] != "" || got["grace_period_secs"] != 7776000.0 || custom != nil || !there {
		t.Errorf("sent %v", got)
	}
	if tag := server.header.Load().Get("If-Match"); tag != `"3-x"` {
		t.Errorf("If-Match is %s", tag)
	}
	sh.pipe("new", "secret", "put", "a/b", "--metadata", "team=a=b", "--metadata", "x=", "--value-file", "-", "--if-match", "*").ok()
	got = server.sent(t)
	pairs, _ := got["custom_metadata"].(map[string]any)
	if got["value"] != "new" || pairs["team"] != "a=b" || pairs["x"] != "" || len(pairs) != 2 {
		t.Errorf("sent %v", got)
	}
	if tag := server.header.Load().Get("If-Match"); tag != "*" {
		t.Errorf("If-Match is %s", tag)
	}
	sh.pipe("", "secret", "create", "a/b", "--rotation-interval", "1h30m").ok().shows("version 1, with a generated value\n")
	if got = server.sent(t); got["kind"] != "automatic" || got["rotation_interval_secs"] != 5400.0 || got["value"] != nil {
		t.Errorf("sent %v", got)
	}
	for _, args := range [][]string{
		{"--metadata", "novalue"},
		{"--metadata", "a=1", "--metadata", "a=2"},
		{"--metadata", "=1"},
		{"--metadata", "a=1", "--no-metadata"},
		{"--grace-period", "1.5s"},
		{"--grace-period", "-1h"},
		{"--grace-period", "99999999d"},
		{"--grace-period", "soon"},
	} {
		sh.pipe("", append([]string{"secret", "put", "a/b"}, args...)...).ends(2)
	}
	for given, want := range map[string]string{
		"10": "Name the unit: 10s, 10m, 10h or 10d", "99999d": "36500d at most", "99999999999999999999d": "36500d at most", "900000h": "36500d at most",
		"-3d": "isn't negative", "1500ms": "whole seconds", "soon": "with its unit, such as 90d",
	} {
		sh.pipe("", "secret", "put", "a/b", "--grace-period", given).ends(2).says(want)
	}
}

func TestValue_PipedOneIsNeverDropped(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 200, nil, created)
	sh := server.shell(t)
	const beside = "a value was piped in beside settings: give --value-file - to set it"
	for _, command := range []string{
		"secret put a/b --grace-period 1h",
		"secret put a/b --description x --username app",
		"secret create a/b --rotation-interval 1h",
		"secret create a/b --kind automatic --rotation-interval 1h --username app",
	} {
		sh.pipe("CANARY", strings.Fields(command)...).ends(2).says(beside).hides("CANARY")
	}
	sh.pipe("", "secret", "put", "a/b", "--as-password", "--grace-period", "1h").ends(1).says("standard input is empty")
	sh.read(iotest.ErrReader(errors.New("gone")), "secret", "put", "a/b", "--grace-period", "1h").ends(1).says("gone")
	if n := server.calls.Load(); n != 0 {
		t.Fatalf("%d requests were sent", n)
	}

	sh.pipe("new\n", "secret", "put", "a/b", "--as-password", "--grace-period", "1h").ok().hides("settings only")
	if got := server.sent(t); got["password"] != "new" || got["grace_period_secs"] != 3600.0 || len(got) != 2 {
		t.Errorf("sent %v", got)
	}
	sh.pipe("new\n", "secret", "create", "a/b", "--rotation-interval", "1h", "--value-file", "-").ok().hides("generated")
	if got := server.sent(t); got["value"] != "new" {
		t.Errorf("sent %v", got)
	}
}

func TestSeconds_ReadBackWhatTheyShow(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0s", 1: "1s", 90: "1m30s", 3600: "1h", 5400: "1h30m", 86400: "1d", 90000: "25h", 7776000: "90d", 315360000: "3650d",
	} {
		got := showSeconds(n)
		back, err := parseSeconds(got)
		if got != want || back != n || err != nil {
			t.Errorf("%d is %q, back %d %v; want %q", n, got, back, err, want)
		}
	}
}
