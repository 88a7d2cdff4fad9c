package config

import (
	"log/slog"
	"testing"
	"time"
)

func mustLoadRotator(t *testing.T, environ map[string]string) *Rotator {
	t.Helper()
	cfg, err := LoadRotator(environ)
	if err != nil {
		t.Fatalf("LoadRotator: %v", err)
	}
	return cfg
}

func TestRotator_AbsentVariablesHaveTheirDefaults(t *testing.T) {
	t.Parallel()
	cfg := mustLoadRotator(t, base(nil))
	if cfg.TelemetryListen != "127.0.0.1:9201" {
		t.Errorf("its telemetry is on %s, where the API's may be", cfg.TelemetryListen)
	}
	if cfg.Poll != 15*time.Second || cfg.Workers != 8 || cfg.Lease != 30*time.Second || cfg.MaxPerMinute != 0 || cfg.MaxAttempts != 10 {
		t.Errorf("got %+v", cfg)
	}
	if cfg.WebhookAllowedIPs != "" || cfg.PublicURL != "" || cfg.RewrapMaxPerSecond != 20 {
		t.Errorf("got %+v", cfg)
	}
	if cfg.AuditTimeout != 2*time.Second || cfg.Drain != 20*time.Second || cfg.DEKCacheTTL != 5*time.Minute || cfg.LogLevel != slog.LevelInfo || cfg.Database.MaxConns != 16 {
		t.Errorf("got %+v", cfg)
	}
	if api := mustLoadAPI(t, base(nil)); api.TelemetryListen != "127.0.0.1:9200" {
		t.Errorf("the API's telemetry is on %s", api.TelemetryListen)
	}
}

func TestRotator_AllProblemsAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := LoadRotator(map[string]string{
		"VAULT_TELEMETRY_LISTEN": "9201", "VAULT_ROTATION_POLL_SECS": "0", "VAULT_ROTATION_WORKERS": "257", "VAULT_ROTATION_LEASE_SECS": "2",
		"VAULT_ROTATION_MAX_PER_MIN": "-1", "VAULT_ROTATION_MAX_ATTEMPTS": "0", "VAULT_KMS_REWRAP_MAX_PER_SEC": "many", "VAULT_PUBLIC_URL": "vault",
		"VAULT_DRAIN_SECS": "0", "VAULT_ALLOWED_IPS": "what the API alone reads",
	}, func(*Rotator) []Problem { return []Problem{{"VAULT_ROTATION_WEBHOOK_ALLOWED_IPS", "from a check"}} })
	for variable, says := range map[string]string{
		"VAULT_TELEMETRY_LISTEN": "host:port", "VAULT_ROTATION_POLL_SECS": "1 to 3600", "VAULT_ROTATION_WORKERS": "1 to 256",
		"VAULT_ROTATION_LEASE_SECS": "3 to 600", "VAULT_ROTATION_MAX_PER_MIN": "0 to 1000000", "VAULT_ROTATION_MAX_ATTEMPTS": "1 to 100",
		"VAULT_KMS_REWRAP_MAX_PER_SEC": "1 to 10000", "VAULT_PUBLIC_URL": "https://HOST", "VAULT_DRAIN_SECS": "1 to 600", "VAULT_DATABASE_URL": "PostgreSQL",
		"VAULT_KMS_KEY_ID": "name the key", "VAULT_ROTATION_WEBHOOK_ALLOWED_IPS": "from a check",
	} {
		wantProblem(t, err, variable, says)
	}
	if message := problemsOf(t, err)["VAULT_ALLOWED_IPS"]; message != "" {
		t.Errorf("it judges what it doesn't read: %s", message)
	}
}

func TestPublicURLIsABaseThatPathsCanFollow(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://vault.example": "https://vault.example", "https://vault.example/": "https://vault.example", "https://vault.example:8443/base/": "https://vault.example:8443/base",
		"https://10.0.0.1": "https://10.0.0.1", "https://[2001:db8::1]:443": "https://[2001:db8::1]:443", "HTTPS://vault.example": "https://vault.example",
		"http://127.0.0.1:8200": "http://127.0.0.1:8200", "http://localhost:8200": "http://localhost:8200", "http://[::1]:8200": "http://[::1]:8200",
	} {
		if got := mustLoadRotator(t, base(map[string]string{"VAULT_PUBLIC_URL": text})).PublicURL; got != want {
			t.Errorf("%s became %s", text, got)
		}
	}
	for _, text := range []string{
		"vault.example", "//vault.example", "https:vault.example", "https://", "https:///path", "ftp://vault.example", "http://vault.example", "http://10.0.0.1",
		"https://u:p@vault.example", "https://u@vault.example", "https://vault.example?x=y", "https://vault.example?", "https://vault.example#x", "https://vault.example#",
		"https://vault.example:", "https://vault.example:0", "https://vault.example:65536", "https://a b", "https://vault.example/%zz",
		"http://localhost.example", "http://127.0.0.1.example",
	} {
		_, err := LoadRotator(base(map[string]string{"VAULT_PUBLIC_URL": text}))
		if message := problemsOf(t, err)["VAULT_PUBLIC_URL"]; message == "" {
			t.Errorf("%s is no problem", text)
		}
	}
}
