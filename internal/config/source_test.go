package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretFromAFile(t *testing.T) {
	t.Parallel()
	load := func(t *testing.T, path string) (*Offline, error) {
		environ := base(map[string]string{"VAULT_BOOTSTRAP_TOKEN_FILE": path})
		return LoadOffline(environ)
	}
	for content, want := range map[string]string{"svk_1": "svk_1", "svk_1\n": "svk_1", "svk_1\r\n": "svk_1", "svk_1\n\n": "svk_1\n", " svk_1 \n": " svk_1 "} {
		cfg, err := load(t, writeFile(t, content))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(cfg.BootstrapToken.Reveal()); got != want {
			t.Errorf("%q became %q, want %q", content, got, want)
		}
	}
	t.Run("and from the variable too is refused", func(t *testing.T) {
		t.Parallel()
		_, err := LoadOffline(base(map[string]string{"VAULT_LOCAL_MASTER_KEY_FILE": writeFile(t, masterKey)}))
		wantProblem(t, err, "VAULT_LOCAL_MASTER_KEY", "keep one of them")
		if len(problemsOf(t, err)) != 1 {
			t.Errorf("more than that: %v", err)
		}
	})
	t.Run("that can't be used is refused", func(t *testing.T) {
		t.Parallel()
		for path, says := range map[string]string{
			filepath.Join(t.TempDir(), "absent"): "does not exist", t.TempDir(): "can't be read",
			writeFile(t, ""): "is empty", writeFile(t, "\n"): "is empty", writeFile(t, strings.Repeat("x", maxSecretFile+1)): "more than",
		} {
			_, err := load(t, path)
			wantProblem(t, err, "VAULT_BOOTSTRAP_TOKEN_FILE", says)
			if strings.Contains(err.Error(), path) {
				t.Errorf("the path shows: %v", err)
			}
		}
	})
	t.Run("that may not be read is refused", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() == 0 {
			t.Skip("root may read every file")
		}
		path := writeFile(t, "x")
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		_, err := load(t, path)
		wantProblem(t, err, "VAULT_BOOTSTRAP_TOKEN_FILE", "may not read")
	})
	t.Run("a file of the database's URL", func(t *testing.T) {
		t.Parallel()
		environ := base(map[string]string{"VAULT_DATABASE_URL": "", "VAULT_DATABASE_URL_FILE": writeFile(t, "postgres://u:p@h/d\n")})
		if got := mustLoadAPI(t, environ).Database.ConnString(); !strings.Contains(got, "dbname='d'") {
			t.Error(got)
		}
		environ["VAULT_PG_HOSTS"] = "h"
		_, err := LoadAPI(environ)
		wantProblem(t, err, "VAULT_DATABASE_URL", "VAULT_PG_HOSTS")
	})
}

func TestRawMasterKeyKeepsItsLastByte(t *testing.T) {
	t.Parallel()
	raw := append(bytes.Repeat([]byte{0x80}, 31), '\n')
	cfg := mustLoadAPI(t, base(map[string]string{"VAULT_LOCAL_MASTER_KEY": "", "VAULT_LOCAL_MASTER_KEY_FILE": writeFile(t, string(raw))}))
	if !bytes.Equal(cfg.KMS.MasterKey.Reveal(), raw) {
		t.Error("32 raw bytes that end in a line feed lost it")
	}
}
