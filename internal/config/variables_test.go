package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What a declared variable says must show in the configuration; a declaration that nothing reads fails here.
func TestEveryDeclaredVariableIsRead(t *testing.T) {
	t.Parallel()
	other := map[string]string{
		"VAULT_API_LISTEN": "127.0.0.1:1", "VAULT_TELEMETRY_LISTEN": "127.0.0.1:1", "VAULT_ALLOWED_IPS": "10.0.0.1", "VAULT_ALLOW_IPV6": "true",
		"VAULT_TRUST_PROXY": "true", "VAULT_TRUSTED_PROXIES": "10.0.0.1", "VAULT_READ_AUTH": "ip+token",
		"VAULT_DATABASE_URL": "postgres://u@h/other", "VAULT_PG_HOSTS": "other", "VAULT_PG_PORT": "1", "VAULT_PG_USER": "other", "VAULT_PG_PASSWORD": "other",
		"VAULT_PG_DBNAME": "other", "VAULT_PG_SSLMODE": "verify-ca", "VAULT_PG_MAX_CONNS": "2", "VAULT_KMS_MODE": "other", "VAULT_KMS_KEY_ID": "alias/other", "VAULT_KMS_ALLOWED_KEY_IDS": "other", "VAULT_KMS_MAX_RETRIES": "0", "VAULT_KMS_RECOVERY_KEY_ID": "other", "VAULT_KMS_USE_RECOVERY": "true", "VAULT_LOCAL_MASTER_KEY": "other",
		"VAULT_BOOTSTRAP_TOKEN": "other", "VAULT_AUDIT_TIMEOUT_MS": "100", "VAULT_SEALED_CACHE_MIB": "0", "VAULT_DEK_CACHE_TTL_SECS": "0", "VAULT_DRAIN_SECS": "1", "VAULT_LOG_LEVEL": "debug",
		"VAULT_ROTATION_POLL_SECS": "1", "VAULT_ROTATION_WORKERS": "1", "VAULT_ROTATION_LEASE_SECS": "3", "VAULT_ROTATION_MAX_PER_MIN": "1", "VAULT_ROTATION_MAX_ATTEMPTS": "1",
		"VAULT_ROTATION_WEBHOOK_ALLOWED_IPS": "10.0.0.1", "VAULT_PUBLIC_URL": "https://other", "VAULT_KMS_REWRAP_MAX_PER_SEC": "1",
	}
	for _, v := range Variables() {
		value, ok := other[v.Name]
		if !ok {
			t.Errorf("%s: name another value here", v.Name)
			continue
		}
		environ := base(nil)
		if strings.HasPrefix(v.Name, "VAULT_PG_") && v.Name != "VAULT_PG_MAX_CONNS" {
			delete(environ, "VAULT_DATABASE_URL")
			environ["VAULT_PG_HOSTS"], environ["VAULT_PG_USER"], environ["VAULT_PG_DBNAME"] = "h", "u", "d"
		}
		for _, program := range v.Programs {
			before := seenBy(t, program, environ)
			environ[v.Name] = value
			if after := seenBy(t, program, environ); after == before {
				t.Errorf("%s=%s changes nothing for %s: %s", v.Name, value, program, after)
			}
			delete(environ, v.Name)
			environ = base(environ)
		}
	}
}

func seenBy(t *testing.T, program string, environ map[string]string) string {
	t.Helper()
	switch program {
	case programAPI:
		c, err := LoadAPI(environ)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%+v %s %s", c.LogValue(), c.Database.ConnString(), c.KMS.MasterKey.Reveal())
	case programRotator:
		c, err := LoadRotator(environ)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%+v %s %s", c.LogValue(), c.Database.ConnString(), c.KMS.MasterKey.Reveal())
	}
	c, err := LoadOffline(environ)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%+v %s %s %s", c.LogValue(), c.Database.ConnString(), c.KMS.MasterKey.Reveal(), c.BootstrapToken.Reveal())
}

func TestVariablesAreDescribed(t *testing.T) {
	t.Parallel()
	var names []string
	for _, v := range Variables() {
		names = append(names, v.Name)
		if !strings.HasPrefix(v.Name, "VAULT_") || v.Type == "" || !strings.HasSuffix(v.Meaning, ".") || len(v.Programs) == 0 {
			t.Errorf("%+v is not described in full", v)
		}
		if v.Secret && v.Default != "" {
			t.Errorf("%s: a secret has no default", v.Name)
		}
		for program := range v.Otherwise {
			if !slices.Contains(v.Programs, program) {
				t.Errorf("%s: a default for %s, which doesn't read it", v.Name, program)
			}
		}
		if slices.Contains(elsewhere, v.Name) {
			t.Errorf("%s is declared and said to be read elsewhere", v.Name)
		}
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != len(Variables()) {
		t.Error("a variable is declared twice")
	}
}
