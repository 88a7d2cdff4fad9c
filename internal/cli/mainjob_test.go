package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
)

func adminShell(t *testing.T, v *sealkeeptest.Vault) shell {
	return shell{t, map[string]string{"VAULT_ADDR": v.URL, "VAULT_TOKEN": v.AdminToken}}
}

// etagOf reads the entity tag out of a table.
func etagOf(r result) string {
	match := regexp.MustCompile(`(?m)^etag +(\S+)$`).FindStringSubmatch(r.stdout)
	if match == nil {
		r.t.Fatalf("no entity tag in:\n%s", r.stdout)
	}
	return match[1]
}

func TestMainJob_OpaqueSecret(t *testing.T) {
	t.Parallel()
	sh := adminShell(t, sealkeeptest.New(t))
	sh.pipe("first\n", "secret", "create", "app/key", "--grace-period", "1h", "--description", "a key", "--metadata", "team=x").ok()
	sh.pipe("first\n", "secret", "create", "app/key").ends(1).says("exists")
	tag := etagOf(sh.run("secret get app/key").ok().shows("first"))
	sh.pipe("second\n", "secret", "put", "app/key", "--if-match", tag).ok().shows("version 2")
	sh.pipe("third\n", "secret", "put", "app/key", "--if-match", tag).ends(1).says("has changed")
	if r := sh.run("secret get app/key --raw").ok(); r.stdout != "second" {
		t.Errorf("read %q", r.stdout)
	}
	if r := sh.run("secret get app/key --raw --version 1").ok(); r.stdout != "first" {
		t.Errorf("read %q", r.stdout)
	}
	sh.pipe("first", "secret", "verify", "app/key").ends(0).shows("valid, version 1")
	sh.pipe("second\n", "secret", "verify", "app/key").ends(0).shows("valid, version 2")
	sh.pipe("third", "secret", "verify", "app/key").ends(1)
	sh.run("secret versions app/key").ok().shows("current", "superseded")
	sh.run("secret rotate app/key").ends(1).says("automatic")
	sh.run("secret put app/key --description changed").ok().shows("version 2")
	sh.run("secret list app/").ok().shows("app/key", "changed")
	sh.run("secret list --json").ok().shows(`"team": "x"`)
	sh.run("secret list other/").ok().shows("no secrets")
	sh.run("secret rm app/key --yes --if-match " + tag).ends(1)
	sh.run("secret rm app/key --yes").ok()
	sh.run("secret get app/key").ends(1).says("no such secret app/key")
	sh.run("audit tail -n 3").ok().shows("delete", "app/key", "not_found", "127.0.0.1")
}

func TestMainJob_BinaryAndGeneratedAndUserpass(t *testing.T) {
	t.Parallel()
	sh := adminShell(t, sealkeeptest.New(t))
	binary := "\x00\xff\xfe\n\n"
	file := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(file, []byte(binary), 0o600); err != nil {
		t.Fatal(err)
	}
	sh.run("secret create app/binary --value-file " + file).ok()
	if r := sh.run("secret get app/binary --raw").ok(); r.stdout != binary {
		t.Errorf("read %q", r.stdout)
	}
	sh.pipe(binary, "secret", "verify", "app/binary").ends(0)

	sh.run("secret create app/auto --rotation-interval 30d --grace-period 1d").ok()
	before := sh.run("secret get app/auto --raw").ok().stdout
	sh.run("secret rotate app/auto").ok().shows("rotated app/auto, version 2").hides(before)
	after := sh.run("secret get app/auto --raw").ok().stdout
	if before == after || len(after) < 40 {
		t.Errorf("rotated %q to %q", before, after)
	}
	sh.pipe(before, "secret", "verify", "app/auto").ends(0)

	sh.pipe("pass\n", "secret", "create", "app/db", "--username", "app").ok()
	sh.pipe("new\n", "secret", "put", "app/db", "--as-password").ok().shows("version 2")
	if r := sh.run("secret get app/db --field username").ok(); r.stdout != "app" {
		t.Errorf("the user is %q", r.stdout)
	}
	if r := sh.run("secret get app/db --field password").ok(); r.stdout != "new" {
		t.Errorf("the password is %q", r.stdout)
	}
	sh.pipe("new", "secret", "verify", "app/db").ends(0)
}

func TestMainJob_RefusalsNameCommandsAndFlags(t *testing.T) {
	t.Parallel()
	sh := adminShell(t, sealkeeptest.New(t))
	sh.pipe("x", "secret", "create", "app/key").ok()
	sh.pipe("x", "secret", "create", "app/db", "--username", "app").ok()
	sh.pipe("x", "secret", "create", "app/key").ends(1).says("exists already: `sealkeep secret put` changes it").hides("PUT")
	sh.run("secret rotate app/key").ends(1).says("only automatic secrets rotate: `sealkeep secret put` gives it a new value").hides("PUT")
	sh.pipe("y", "secret", "put", "app/db").ends(1).says("--as-password", "--username").hides("replace")
	sh.run("secret put app/key --rotation-interval 1h").ends(1).says("has no --rotation-interval").hides("_secs")
	sh.run("secret put app/key --grace-period 400d").ends(1).says("--grace-period must be 0 to").hides("_secs")
	sh.run("role create reader --allow read:app/*").ok()
	sh.run("token create ci --role reader --expires-in 36500d").ends(1).says("--expires-in in seconds is 1 to").hides("_secs")
}

func TestMainJob_RolesAndTokens(t *testing.T) {
	t.Parallel()
	v := sealkeeptest.New(t, sealkeeptest.WithReadAuth("ip+token"))
	sh := adminShell(t, v)
	sh.pipe("x", "secret", "create", "app/key").ok()
	sh.pipe("x", "secret", "create", "other/key").ok()
	sh.run("role create reader --allow read:app/*").ok().shows("app/*")
	token := strings.TrimSpace(sh.run("token create ci --role reader --expires-in 1h --raw").ok().stdout)
	ci := sh.with("VAULT_TOKEN", token)
	ci.run("secret get app/key").ok()
	ci.run("secret get other/key").ends(1).says("VAULT_ALLOWED_IPS", "the role of VAULT_TOKEN may not read it")
	ci.run("secret list").ok().shows("app/key").hides("other/key")
	ci.run("secret rm app/key --yes").ends(1).says("the role of VAULT_TOKEN may not do this")
	ci.run("token list").ends(1).says("the role of VAULT_TOKEN")
	sh.with("VAULT_TOKEN", "").run("secret get app/key").ends(1).says("set VAULT_TOKEN")
	sh.run("role set reader --allow *:other/*").ok()
	sh.run("role show reader").ok().shows("other/*").hides("app/*")
	sh.run("role delete reader").ends(1).says("use")
	sh.run("token list").ok().shows("ci", "reader", "bootstrap").hides(token)
	sh.run("token revoke ci").ok()
	ci.run("secret get app/key").ends(1).says("VAULT_TOKEN is unknown, expired or revoked")
	sh.run("role list --json").ok().shows(`"name": "reader"`)
	sh.run("role delete reader").ok()
	sh.run("role show reader").ends(1).says("no such role reader")
}

func TestI4_EmptyAllowlistIsNamed(t *testing.T) {
	t.Parallel()
	sh := adminShell(t, sealkeeptest.New(t, sealkeeptest.WithAllowedIPs("")))
	sh.pipe("x", "secret", "create", "app/key").ok()
	sh.run("secret get app/key").ends(1).says("VAULT_ALLOWED_IPS")
	sh.pipe("x", "secret", "verify", "app/key").ends(2).says("VAULT_ALLOWED_IPS")
}
