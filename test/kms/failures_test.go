package kms_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/internal/telemetry"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmsd"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmstest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

const gone = "arn:aws:kms:eu-central-1:111122223333:key/00000000-0000-0000-0000-000000000000"

func TestI4_EveryFailureOfTheKMSHasItsClass(t *testing.T) {
	t.Parallel()
	server := kmstest.Start(t)
	key, other := server.CreateKey(t, kmsd.CreateKey{}), server.CreateKey(t, kmsd.CreateKey{})
	options := append(uncached(), sealkeeptest.WithEnv("VAULT_KMS_ALLOWED_KEY_IDS", gone+","+other))
	v := vaulttest.New(t, vaulttest.Config{KMS: server.Environ(key), Options: options})
	put(t, v, "a")
	put(t, v, "b")
	none := 0.0
	edit := func(sql string, args ...any) func() {
		return func() {
			v.Made(t, "UPDATE vault.secret_versions SET "+sql+" WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = 'a')", args...)
		}
	}
	stored := pgtest.Query[struct {
		WrappedDEK []byte
		Key        string
	}](t, v.DB, "SELECT wrapped_dek, kms_key_id FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id WHERE s.name = 'a'")[0]
	mend := edit("wrapped_dek = $1, kms_key_id = $2", stored.WrappedDEK, stored.Key)
	answers := func() { server.Misbehave(t, kmsd.Fault{}) }

	for _, c := range []struct {
		name        string
		class       kms.Class
		status      int
		spoil, mend func()
	}{
		{"it throttles", kms.ClassThrottled, 503, func() { server.Misbehave(t, kmsd.Fault{Throttle: &none}) }, answers},
		{"it fails", kms.ClassUnavailable, 503, func() { server.Misbehave(t, kmsd.Fault{Fail: true}) }, answers},
		{"a proxy answers for it", kms.ClassUnavailable, 503, func() { server.Misbehave(t, kmsd.Fault{Anonymous: true}) }, answers},
		{"it cuts connections", kms.ClassUnavailable, 503, func() { server.Misbehave(t, kmsd.Fault{Drop: true}) }, answers},
		{"it says nothing", kms.ClassUnavailable, 503, func() { server.Misbehave(t, kmsd.Fault{Stall: true}) }, answers},
		{"it is gone", kms.ClassUnavailable, 503, func() { server.Kill(t) }, func() { server.Restart(t) }},
		{"it answers for another key", kms.ClassIncorrectKey, 500, func() { server.Misbehave(t, kmsd.Fault{Lie: true}) }, answers},
		{"it denies", kms.ClassDenied, 503, func() { server.Deny(t, key, "Decrypt") }, func() { server.Allow(t, key, "Decrypt") }},
		{"the key is disabled", kms.ClassDisabled, 503, func() { server.State(t, key, kmsd.Disabled) }, func() { server.State(t, key, kmsd.Enabled) }},
		{"the key is to be deleted", kms.ClassPendingDeletion, 503, func() { server.State(t, key, kmsd.PendingDeletion) }, func() { server.State(t, key, kmsd.Enabled) }},
		{"there is no such key", kms.ClassNotFound, 503, edit("kms_key_id = $1", gone), mend},
		{"a wrapped key is damaged", kms.ClassInvalidCiphertext, 500, edit("wrapped_dek = set_byte(wrapped_dek, length(wrapped_dek) - 1, get_byte(wrapped_dek, length(wrapped_dek) - 1) # 1)"), mend},
		{"a wrapped key is cut off", kms.ClassInvalidCiphertext, 500, edit("wrapped_dek = substr(wrapped_dek, 1, 10)"), mend},
		{"a wrapped key is another place's", kms.ClassInvalidCiphertext, 500, edit("wrapped_dek = (SELECT wrapped_dek FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id WHERE s.name = 'b')"), mend},
		{"a row names another key than it is under", kms.ClassIncorrectKey, 500, edit("kms_key_id = $1", other), mend},
		{"a row names a key that isn't allowed", kms.ClassNotAllowed, 500, edit("kms_key_id = $1", strings.Replace(key, "111122223333", "999999999999", 1)), mend},
	} {
		series := fmt.Sprintf(`sealkeep_kms_errors_total{class="%s"}`, c.class)
		before := v.Metric(t, series)
		c.spoil()
		if got := get(t, v, "a"); got != c.status {
			t.Errorf("%s: status %d, want %d", c.name, got, c.status)
		}
		if v.Metric(t, series) <= before {
			t.Errorf("%s: %s doesn't count it", c.name, series)
		}
		if !strings.Contains(v.Log.String(), `"class":"`+string(c.class)+`"`) {
			t.Errorf("%s: the log has no line of class %s", c.name, c.class)
		}
		c.mend()
		vaulttest.Eventually(t, "after "+c.name+", it serves again", func() bool { return get(t, v, "a") == http.StatusOK })
	}
	server.Misbehave(t, kmsd.Fault{Lie: true})
	v.Do(t, http.MethodPost, "/v1/secrets", map[string]any{"name": "new", "kind": "manual", "value": "new"}).Want(t, http.StatusInternalServerError)
	answers()
	v.VerifyClean(t)
}

func TestI1_NothingIsSentInTheOpen(t *testing.T) {
	t.Parallel()
	// What the configuration refuses, the client refuses too: the address may come from a profile.
	keeper, err := kms.NewAWS(t.Context(), kms.AWSConfig{KeyID: gone, Region: kmstest.Region, Endpoint: "http://kms.invalid"})
	if err != nil {
		t.Fatal(err)
	}
	defer keeper.Close()
	_, err = keeper.GenerateDataKey(t.Context(), kms.NewContext(kms.Text("use", "test")))
	if err == nil || !strings.Contains(err.Error(), "isn't https") {
		t.Errorf("got %v", err)
	}
}

func TestI4_AKeyThatIsNotAllowedIsNeverAskedFor(t *testing.T) {
	t.Parallel()
	f := setup(t, uncached()...)
	put(t, f.Vault, "a")
	foreign := f.kms.CreateKey(t, kmsd.CreateKey{})
	f.Made(t, "UPDATE vault.secret_versions SET kms_key_id = $1", foreign)
	before := f.kms.Calls(t, "Decrypt")
	want(t, f.Vault, "a", http.StatusInternalServerError)
	if n := f.kms.Calls(t, "Decrypt") - before; n != 0 {
		t.Errorf("KMS was asked %d times", n)
	}
	if f.Metric(t, `sealkeep_vault_integrity_failures_total{action="secret.read"}`) == 0 {
		t.Error("no alarm was raised")
	}
}

func TestI5_SwappedWrappedKeysOpenNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	put(t, f.Vault, "a")
	put(t, f.Vault, "b")
	swap := func() {
		f.Made(t, `UPDATE vault.secret_versions v SET wrapped_dek = o.wrapped_dek FROM vault.secret_versions o WHERE o.secret_id <> v.secret_id`)
	}
	for _, state := range []string{"cold", "warm"} { // warm: both keys are kept, each for its own place
		if state == "warm" {
			want(t, f.Vault, "a", http.StatusOK)
			want(t, f.Vault, "b", http.StatusOK)
		}
		swap()
		want(t, f.Vault, "a", http.StatusInternalServerError)
		want(t, f.Vault, "b", http.StatusInternalServerError)
		swap()
	}
	want(t, f.Vault, "a", http.StatusOK)
	want(t, f.Vault, "b", http.StatusOK)
}

func TestI4_WithoutItsKMSAProcessDoesNotStart(t *testing.T) {
	t.Parallel()
	f := setup(t, sealkeeptest.WithEnv("VAULT_KMS_MAX_RETRIES", "0"))
	start := func(changes map[string]string) string {
		environ := f.OfflineEnviron()
		environ["VAULT_DATABASE_URL"], environ["VAULT_API_LISTEN"], environ["VAULT_TELEMETRY_LISTEN"] = f.DB.URL("sealkeep_api"), "127.0.0.1:0", "127.0.0.1:0"
		environ["VAULT_KMS_MAX_RETRIES"] = "0"
		for name, value := range changes {
			environ[name] = value
		}
		cfg, err := boot.LoadAPI(environ)
		if err != nil {
			return err.Error()
		}
		p, err := boot.NewAPI(t.Context(), cfg, telemetry.NewLogger(f.Log, cfg.LogLevel))
		if err == nil {
			p.Close()
			return ""
		}
		return err.Error()
	}
	if problem := start(nil); problem != "" {
		t.Fatalf("it doesn't start at all: %s", problem)
	}
	another := f.kms.CreateKey(t, kmsd.CreateKey{})
	f.kms.Alias(t, "alias/denied", f.key)
	for name, c := range map[string]struct {
		changes map[string]string
		says    string
	}{
		"another key":             {map[string]string{"VAULT_KMS_KEY_ID": another}, "is this the vault's own KMS key?"},
		"an alias that is none":   {map[string]string{"VAULT_KMS_KEY_ID": "alias/none"}, "not_found"},
		"no key":                  {map[string]string{"VAULT_KMS_KEY_ID": ""}, "VAULT_KMS_KEY_ID"},
		"no key's name":           {map[string]string{"VAULT_KMS_KEY_ID": "arn:aws:s3:::bucket"}, "write its ARN or id"},
		"allowed keys by alias":   {map[string]string{"VAULT_KMS_ALLOWED_KEY_IDS": "alias/denied"}, "isn't the ARN of a key"},
		"an endpoint in the open": {map[string]string{"AWS_ENDPOINT_URL_KMS": "http://kms.example"}, "isn't https"},
		"nobody at the endpoint":  {map[string]string{"AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:1"}, "unavailable"},
	} {
		if problem := start(c.changes); !strings.Contains(problem, c.says) {
			t.Errorf("%s: %q, want something with %q", name, problem, c.says)
		}
	}
}

// Credentials are the process's, so this test can't run beside others.
func TestI4_CredentialsThatAreMissingOrWrongAreToldApart(t *testing.T) {
	server := kmstest.Start(t)
	key := server.CreateKey(t, kmsd.CreateKey{})
	try := func(name, id, secret string) {
		t.Setenv("AWS_ACCESS_KEY_ID", id)
		t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
		keeper, err := kms.NewAWS(t.Context(), kms.AWSConfig{KeyID: key, Region: kmstest.Region, Endpoint: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		defer keeper.Close()
		_, err = keeper.GenerateDataKey(t.Context(), kms.NewContext(kms.Text("use", "test")))
		if s := keeper.Status(); fault.KindOf(err) != fault.Unavailable || s.State != string(kms.ClassCredentials) || s.Breaker != "closed" {
			t.Errorf("%s: %v, and the state is %s", name, err, s.State)
		}
	}
	try("none", "", "")
	try("unknown", "AKIASOMEBODYELSE0000", kmsd.SecretKey)
	try("a wrong secret", kmsd.AccessKey, "wrong")
}
