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
	api, offline := e.ofAPI("api's"), e.ofOffline("operator's")
	if api["VAULT_DATABASE_URL"] != "api's" || offline["VAULT_DATABASE_URL"] != "operator's" {
		t.Errorf("got %v and %v", api, offline)
	}
	for _, vars := range []map[string]string{api, offline} {
		for name, value := range vars {
			if name != "VAULT_DATABASE_URL" && (ofDatabase(name) || strings.Contains(value, "hvs.")) {
				t.Errorf("%s=%s reaches a process", name, value)
			}
		}
	}
	if _, there := api["VAULT_BOOTSTRAP_TOKEN"]; there || offline["VAULT_BOOTSTRAP_TOKEN"] != "svk_x" {
		t.Error("the bootstrap token is not for init alone")
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
