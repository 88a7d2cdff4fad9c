package config

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAbsentVariablesHaveTheirDefaults(t *testing.T) {
	t.Parallel()
	cfg := mustLoadAPI(t, base(nil))
	if cfg.Listen != "0.0.0.0:8200" || cfg.TelemetryListen != "127.0.0.1:9200" {
		t.Errorf("listens on %s and %s", cfg.Listen, cfg.TelemetryListen)
	}
	if cfg.AllowedIPs != "" || cfg.TrustProxy || cfg.AllowIPv6 || cfg.ReadAuth != "ip" {
		t.Errorf("access is %+v", cfg)
	}
	if cfg.AuditTimeout != 2*time.Second || cfg.Drain != 20*time.Second || cfg.LogLevel != slog.LevelInfo || cfg.Database.MaxConns != 16 {
		t.Errorf("got %v %v %v %v", cfg.AuditTimeout, cfg.Drain, cfg.LogLevel, cfg.Database.MaxConns)
	}
}

func TestEmptyVariableCountsAsUnset(t *testing.T) {
	t.Parallel()
	environ := base(nil)
	for _, v := range Variables() {
		if _, set := environ[v.Name]; !set {
			environ[v.Name] = ""
		}
		if v.Secret {
			environ[v.Name+"_FILE"] = ""
		}
	}
	cfg := mustLoadAPI(t, environ)
	if cfg.Listen != "0.0.0.0:8200" || cfg.Drain != 20*time.Second || len(cfg.Unrecognised) != 0 {
		t.Errorf("got %+v", cfg)
	}
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := LoadAPI(map[string]string{
		"VAULT_API_LISTEN":       "8200",
		"VAULT_TELEMETRY_LISTEN": "localhost:99999",
		"VAULT_TRUST_PROXY":      "maybe",
		"VAULT_ALLOW_IPV6":       "si",
		"VAULT_READ_AUTH":        "token",
		"VAULT_AUDIT_TIMEOUT_MS": "2s",
		"VAULT_DRAIN_SECS":       "0",
		"VAULT_LOG_LEVEL":        "loud",
		"VAULT_PG_HOSTS":         "db/1",
		"VAULT_PG_PORT":          "0",
		"VAULT_PG_SSLMODE":       "full",
		"VAULT_PG_MAX_CONNS":     "+16",
	}, func(*API) []Problem { return []Problem{{"VAULT_ALLOWED_IPS", "from a check"}} })
	for variable, says := range map[string]string{
		"VAULT_API_LISTEN": "host:port", "VAULT_TELEMETRY_LISTEN": "host:port", "VAULT_TRUST_PROXY": "true or false",
		"VAULT_ALLOW_IPV6": "true or false", "VAULT_READ_AUTH": "ip or ip+token", "VAULT_AUDIT_TIMEOUT_MS": "100 to 8000",
		"VAULT_DRAIN_SECS": "1 to 600", "VAULT_LOG_LEVEL": "debug, info", "VAULT_PG_HOSTS": "host names", "VAULT_PG_PORT": "1 to 65535",
		"VAULT_PG_SSLMODE": "verify-full", "VAULT_PG_MAX_CONNS": "2 to 1000", "VAULT_PG_USER": "login role",
		"VAULT_PG_DBNAME": "name of the vault's database", "VAULT_KMS_KEY_ID": "VAULT_KMS_MODE=local", "VAULT_ALLOWED_IPS": "from a check",
	} {
		wantProblem(t, err, variable, says)
	}
	var all *Error
	if errors.As(err, &all); !slices.IsSortedFunc(all.Problems, func(a, b Problem) int { return strings.Compare(a.Variable, b.Variable) }) {
		t.Errorf("not sorted by variable:\n%v", err)
	}
	if lines := strings.Count(err.Error(), "\n"); lines != len(all.Problems) || !strings.Contains(err.Error(), fmt.Sprint(lines, " problems")) {
		t.Errorf("not a line per problem:\n%v", err)
	}
}

func TestListenersDoNotCollide(t *testing.T) {
	t.Parallel()
	_, err := LoadAPI(base(map[string]string{"VAULT_API_LISTEN": "127.0.0.1:9200"}))
	wantProblem(t, err, "VAULT_TELEMETRY_LISTEN", "VAULT_API_LISTEN")
	mustLoadAPI(t, base(map[string]string{"VAULT_API_LISTEN": "127.0.0.1:0", "VAULT_TELEMETRY_LISTEN": "127.0.0.1:0"}))
}

func TestListenAddressIsHostAndPort(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"127.0.0.1:0", ":8200", "[::1]:8200", "localhost:8200", "api.vault.svc:65535", "my_host:1", "[fe80::1%eth0]:1"} {
		if got := mustLoadAPI(t, base(map[string]string{"VAULT_API_LISTEN": good})).Listen; got != good {
			t.Errorf("%s became %s", good, got)
		}
	}
	for _, bad := range []string{
		"127.0.0.1", "::1:8200", "127.0.0.1:http", "127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1:", "http://127.0.0.1:1", "a b:1", "a..b:1", "-a:1", "1.2.3.4:1 ",
		strings.Repeat("a", 64) + ":1",
	} {
		_, err := LoadAPI(base(map[string]string{"VAULT_API_LISTEN": bad}))
		wantProblem(t, err, "VAULT_API_LISTEN", "host:port")
	}
}

func TestKeyKeeperModes(t *testing.T) {
	t.Parallel()
	_, err := LoadAPI(base(map[string]string{"VAULT_KMS_MODE": "aws"}))
	wantProblem(t, err, "VAULT_KMS_KEY_ID", "name the key of AWS KMS")
	_, err = LoadAPI(base(map[string]string{"VAULT_KMS_MODE": ""}))
	wantProblem(t, err, "VAULT_KMS_KEY_ID", "name the key of AWS KMS")
	_, err = LoadAPI(base(map[string]string{"VAULT_KMS_MODE": "gcp"}))
	wantProblem(t, err, "VAULT_KMS_MODE", "write aws, or local")
	_, err = LoadAPI(base(map[string]string{"VAULT_LOCAL_MASTER_KEY": ""}))
	wantProblem(t, err, "VAULT_LOCAL_MASTER_KEY", "VAULT_LOCAL_MASTER_KEY_FILE")
}

func TestUnrecognisedVariablesAreNamed(t *testing.T) {
	t.Parallel()
	cfg := mustLoadAPI(t, base(map[string]string{
		"VAULT_ALLOW_IPS": "10.0.0.1", "VAULT_PG_HOSTS_FILE": "x", "VAULT_TLS_CERT_FILE": "/cert.pem", "vault_read_auth": "ip", "HOME": "/",
		"VAULT_ADDR": "http://localhost:8200", "VAULT_TOKEN": "svk_", "VAULT_TOKEN_FILE": "/x", "VAULT_AUDIT_SINKS": "file:///x", "VAULT_BOOTSTRAP_TOKEN_FILE": "/x",
	}))
	want := []string{"VAULT_ALLOW_IPS", "VAULT_PG_HOSTS_FILE", "VAULT_TLS_CERT_FILE"}
	if !slices.Equal(cfg.Unrecognised, want) {
		t.Errorf("got %v, want %v", cfg.Unrecognised, want)
	}
}

func TestTokenOfAClient(t *testing.T) {
	t.Parallel()
	for claim, environ := range map[string]map[string]string{
		"from the variable": {"VAULT_TOKEN": "svk_1"}, "from a file": {"VAULT_TOKEN_FILE": writeFile(t, "svk_1\n")},
	} {
		if token, err := LoadToken(environ); err != nil || string(token.Reveal()) != "svk_1" {
			t.Errorf("%s: %v", claim, err)
		}
	}
	if token, err := LoadToken(nil); err != nil || !token.IsZero() {
		t.Errorf("without one: %v", err)
	}
	token, err := LoadToken(map[string]string{"VAULT_TOKEN": "svk_1", "VAULT_TOKEN_FILE": writeFile(t, "svk_1")})
	wantProblem(t, err, "VAULT_TOKEN", "keep one of them")
	if !token.IsZero() {
		t.Error("a token came with the error")
	}
}

// A request's evidence must end before its connection is given up as silent, which is after 10 s.
func TestAuditTimeoutIsBounded(t *testing.T) {
	t.Parallel()
	if got := mustLoadAPI(t, base(map[string]string{"VAULT_AUDIT_TIMEOUT_MS": "8000"})).AuditTimeout; got != 8*time.Second {
		t.Errorf("got %v", got)
	}
	_, err := LoadAPI(base(map[string]string{"VAULT_AUDIT_TIMEOUT_MS": "8001"}))
	wantProblem(t, err, "VAULT_AUDIT_TIMEOUT_MS", "100 to 8000")
}

func TestI1_NoErrorAndNoLogHoldsASecret(t *testing.T) {
	t.Parallel()
	const canary = "cAnArY-7f3a91"
	t.Run("whatever variable it was written to", func(t *testing.T) {
		t.Parallel()
		for _, v := range Variables() {
			names := []string{v.Name}
			if v.Secret {
				names = append(names, v.Name+"_FILE")
			}
			for _, name := range names {
				for _, value := range []string{canary, "postgres://" + canary, "postgres://u:" + canary + "@h:x/d", "postgres://u:%" + canary + "@h/d", "postgres://u@h/d?" + canary + "=" + canary} {
					environ := base(map[string]string{"VAULT_TRUST_PROXY": "x", name: value})
					if strings.HasPrefix(name, "VAULT_PG_") {
						delete(environ, "VAULT_DATABASE_URL")
					}
					_, err := LoadAPI(environ)
					_, errOffline := LoadOffline(environ)
					_, errRotator := LoadRotator(environ)
					if text := fmt.Sprintf("%v %+v %v %v", err, err, errOffline, errRotator); strings.Contains(text, canary) {
						t.Errorf("%s=%s shows in %s", name, value, text)
					}
				}
			}
		}
	})
	t.Run("when it is logged or printed", func(t *testing.T) {
		t.Parallel()
		environ := base(map[string]string{
			"VAULT_DATABASE_URL":     "postgres://u:" + canary + "@h/d?sslpassword=" + canary,
			"VAULT_LOCAL_MASTER_KEY": canary, "VAULT_BOOTSTRAP_TOKEN": canary,
		})
		cfg := mustLoadAPI(t, environ)
		offline, err := LoadOffline(environ)
		if err != nil {
			t.Fatal(err)
		}
		rotator, err := LoadRotator(environ)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		log := slog.New(slog.NewJSONHandler(&out, nil))
		log.Info("configuration", "config", cfg, "offline", offline, "rotator", rotator, "database", cfg.Database, "kms", cfg.KMS)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			fmt.Fprintf(&out, verb+verb+verb, *cfg, *offline, *rotator)
		}
		if strings.Contains(out.String(), canary) {
			t.Errorf("shows in %s", out.String())
		}
		for _, shown := range []string{`"hosts":"h:5432"`, `"sslmode":"verify-full"`, `"mode":"local"`, `"listen":"0.0.0.0:8200"`, `"telemetry_listen":"127.0.0.1:9201"`} {
			if !strings.Contains(out.String(), shown) {
				t.Errorf("%s isn't logged: %s", shown, out.String())
			}
		}
	})
}

func TestReleaseZeroesKeysAndTokens(t *testing.T) {
	t.Parallel()
	cfg, err := LoadOffline(base(map[string]string{"VAULT_BOOTSTRAP_TOKEN": "svk_x"}))
	if err != nil {
		t.Fatal(err)
	}
	key, token := cfg.KMS.MasterKey, cfg.BootstrapToken
	cfg.Release()
	if key.Len() != 0 || token.Len() != 0 {
		t.Error("still held after Release")
	}
}

func TestDatabaseAloneNeedsNoKeys(t *testing.T) {
	t.Parallel()
	d, err := LoadDatabase(map[string]string{"VAULT_DATABASE_URL": "postgres://u@h/d"})
	if err != nil || d.Hosts() != "h:5432" {
		t.Errorf("got %v, %v", d, err)
	}
	_, err = LoadDatabase(nil)
	wantProblem(t, err, "VAULT_DATABASE_URL", "VAULT_PG_HOSTS")
}

func TestEnviron(t *testing.T) {
	t.Parallel()
	got := Environ([]string{"A=1", "B=x=y", "C=", "A=2", "broken"})
	if len(got) != 3 || got["A"] != "1" || got["B"] != "x=y" || got["C"] != "" {
		t.Errorf("got %v", got)
	}
}
