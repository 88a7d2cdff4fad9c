package dev

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestEnvironment_FillsOnlyWhatIsUnset(t *testing.T) {
	t.Parallel()
	e := newEnvironment(map[string]string{"HOME": "/home/me"}, "/dir", "127.0.0.1:8200", false)
	want := map[string]string{
		"HOME": "/home/me", "VAULT_API_LISTEN": "127.0.0.1:8200", "VAULT_TELEMETRY_LISTEN": "127.0.0.1:0",
		"VAULT_ALLOWED_IPS": "127.0.0.0/8", "VAULT_READ_AUTH": "ip", "VAULT_DRAIN_SECS": "3", "VAULT_KMS_MODE": "local",
		"VAULT_LOCAL_MASTER_KEY_FILE": "/dir/master-key",
	}
	if !maps.Equal(e.vars, want) || e.keyFile != "/dir/master-key" || len(e.ignored) != 0 {
		t.Errorf("got %v, %s, %v", e.vars, e.keyFile, e.ignored)
	}
}

func TestEnvironment_KeepsWhatIsSetAnEmptyOneToo(t *testing.T) {
	t.Parallel()
	user := map[string]string{
		"VAULT_API_LISTEN": "127.0.0.1:1", "VAULT_TELEMETRY_LISTEN": "127.0.0.1:2", "VAULT_ALLOWED_IPS": "",
		"VAULT_READ_AUTH": "ip+token", "VAULT_DRAIN_SECS": "", "VAULT_KMS_MODE": "local", "VAULT_LOCAL_MASTER_KEY": "",
		"VAULT_LOG_LEVEL": "debug", "VAULT_SOMETHING_ELSE": "x",
	}
	e := newEnvironment(user, "/dir", "127.0.0.1:8200", false)
	if !maps.Equal(e.vars, user) || e.keyFile != "" {
		t.Errorf("got %v, %s", e.vars, e.keyFile)
	}
	if e := newEnvironment(user, "/dir", "127.0.0.1:8201", true); e.vars["VAULT_API_LISTEN"] != "127.0.0.1:8201" {
		t.Errorf("--api-listen was given, and the API listens on %s", e.vars["VAULT_API_LISTEN"])
	}
	for _, user := range []map[string]string{
		{"VAULT_KMS_MODE": ""},
		{"VAULT_KMS_MODE": "aws"},
		{"VAULT_LOCAL_MASTER_KEY": "abc"},
		{"VAULT_LOCAL_MASTER_KEY_FILE": "/elsewhere"},
	} {
		if e := newEnvironment(user, "/dir", "", false); e.keyFile != "" || e.vars["VAULT_LOCAL_MASTER_KEY_FILE"] == "/dir/master-key" {
			t.Errorf("%v: a master key of our own in %s", user, e.keyFile)
		}
	}
	relative := newEnvironment(map[string]string{"VAULT_LOCAL_MASTER_KEY_FILE": "key"}, "/dir", "", false)
	if file := relative.vars["VAULT_LOCAL_MASTER_KEY_FILE"]; !filepath.IsAbs(file) || filepath.Base(file) != "key" {
		t.Errorf("DIR/env would name the master key as %s", file)
	}
}

func TestEnvironment_TheDatabaseIsItsOwn(t *testing.T) {
	t.Parallel()
	user := map[string]string{
		"VAULT_DATABASE_URL": "postgres://elsewhere/x", "VAULT_DATABASE_URL_FILE": "/x", "VAULT_PG_HOSTS": "elsewhere",
		"VAULT_PG_PASSWORD_FILE": "/x", "PGHOST": "elsewhere", "PGSERVICE": "x",
		"VAULT_ADDR": "https://elsewhere", "VAULT_TOKEN": "hvs.x", "VAULT_TOKEN_FILE": "/x", "VAULT_BOOTSTRAP_TOKEN": "svk_x",
	}
	e := newEnvironment(user, "/dir", "", false)
	ignored := []string{"PGHOST", "PGSERVICE", "VAULT_DATABASE_URL", "VAULT_DATABASE_URL_FILE", "VAULT_PG_HOSTS", "VAULT_PG_PASSWORD_FILE"}
	if !slices.Equal(e.ignored, ignored) {
		t.Errorf("ignores %v", e.ignored)
	}
	api, rotator, offline := e.ofAPI("api's"), e.ofRotator("rotator's", ""), e.ofOffline("operator's")
	if api["VAULT_DATABASE_URL"] != "api's" || rotator["VAULT_DATABASE_URL"] != "rotator's" || offline["VAULT_DATABASE_URL"] != "operator's" {
		t.Errorf("got %v, %v and %v", api, rotator, offline)
	}
	for _, vars := range []map[string]string{api, rotator, offline} {
		for name, value := range vars {
			if name != "VAULT_DATABASE_URL" && (ofDatabase(name) || strings.Contains(value, "hvs.")) {
				t.Errorf("%s=%s reaches a process", name, value)
			}
		}
	}
	if _, there := rotator["VAULT_BOOTSTRAP_TOKEN"]; there {
		t.Error("a rotator is told the bootstrap token")
	}
	if _, there := api["VAULT_BOOTSTRAP_TOKEN"]; there || offline["VAULT_BOOTSTRAP_TOKEN"] != "svk_x" {
		t.Error("the bootstrap token is not for init alone")
	}
}

func TestEnvironment_OfTheRotator(t *testing.T) {
	t.Parallel()
	const loopback = "http://127.0.0.1:8200"
	for claim, c := range map[string]struct {
		user map[string]string
		base string
		want string
	}{
		"receivers on this machine reach the API":         {map[string]string{}, loopback, loopback},
		"nobody is sent where there would have to be TLS": {map[string]string{}, "http://192.0.2.1:8200", ""},
		"what the user says holds":                        {map[string]string{"VAULT_PUBLIC_URL": "https://vault.example"}, loopback, "https://vault.example"},
		"what the user leaves empty too":                  {map[string]string{"VAULT_PUBLIC_URL": ""}, loopback, ""},
	} {
		if got := newEnvironment(c.user, "/dir", "", false).ofRotator("url", c.base)["VAULT_PUBLIC_URL"]; got != c.want {
			t.Errorf("%s: VAULT_PUBLIC_URL is %q", claim, got)
		}
	}
	e := newEnvironment(map[string]string{"VAULT_TELEMETRY_LISTEN": "127.0.0.1:9200", "VAULT_ROTATION_WORKERS": "2"}, "/dir", "", false)
	if vars := e.ofRotator("url", loopback); vars["VAULT_TELEMETRY_LISTEN"] != "127.0.0.1:0" || vars["VAULT_ROTATION_WORKERS"] != "2" {
		t.Errorf("got %v", vars)
	}
	if vars := e.ofAPI("url"); vars["VAULT_TELEMETRY_LISTEN"] != "127.0.0.1:9200" {
		t.Errorf("the API's telemetry is on %s", vars["VAULT_TELEMETRY_LISTEN"])
	}
}

func TestEnvironment_ProblemsOfBothProcessesAreToldOnce(t *testing.T) {
	t.Parallel()
	for _, one := range []string{"VAULT_READ_AUTH", "VAULT_ROTATION_WORKERS", "VAULT_DRAIN_SECS"} {
		if _, err := newEnvironment(map[string]string{one: "none"}, "/dir", "127.0.0.1:0", false).check(); err == nil || strings.Count(err.Error(), one) != 1 {
			t.Errorf("%s: %v", one, err)
		}
	}
	all := map[string]string{"VAULT_READ_AUTH": "none", "VAULT_ROTATION_WORKERS": "none", "VAULT_DRAIN_SECS": "none"}
	_, err := newEnvironment(all, "/dir", "127.0.0.1:0", false).check()
	if err == nil || !strings.Contains(err.Error(), "3 problems") {
		t.Errorf("got %v", err)
	}
}

func TestScript_ShellsReadBackWhatWasWritten(t *testing.T) {
	t.Parallel()
	nasty := `it's "$HOME" \ ` + "`id`\n" + `!;&|<>*?#~ü`
	file := filepath.Join(t.TempDir(), "env")
	text := script([]variable{{"VAULT_ADDR", "http://127.0.0.1:8200"}, {"NASTY", nasty}, {"EMPTY", ""}}, []string{"PGSERVICE", "NEVER_SET"})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "bash", "dash", "zsh"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		cmd := exec.Command(path, "-euc", `. "$1"; printf '%s|%s|%s|%s' "$VAULT_ADDR" "$NASTY" "$EMPTY" "${PGSERVICE-unset}"`, "sh", file)
		cmd.Env = []string{"PGSERVICE=x"}
		out, err := cmd.CombinedOutput()
		if want := "http://127.0.0.1:8200|" + nasty + "||unset"; err != nil || string(out) != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, out, want)
		}
	}
}
