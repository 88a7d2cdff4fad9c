package kms_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/cli"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmsd"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// command runs an offline command with changes to the vault's environment.
func (f *fixture) command(t *testing.T, changes map[string]string, args ...string) (status int, output string) {
	t.Helper()
	environ := f.OfflineEnviron()
	maps.Copy(environ, changes)
	var out bytes.Buffer
	status = cli.Run(t.Context(), cli.Invocation{
		Program: "sealkeep", Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Environ: environ,
	})
	return status, out.String()
}

// shows requires that an offline command ends well and prints some texts.
func (f *fixture) shows(t *testing.T, changes map[string]string, command string, texts ...string) {
	t.Helper()
	status, out := f.command(t, changes, strings.Fields(command)...)
	for _, text := range texts {
		if status != 0 || !strings.Contains(out, text) {
			t.Errorf("%s ends with %d and without %q:\n%s", command, status, text, out)
		}
	}
}

// serves starts a process with changes to the vault's environment.
func (f *fixture) serves(t *testing.T, changes map[string]string) *vaulttest.Vault {
	t.Helper()
	var options []sealkeeptest.Option
	for name, value := range changes {
		options = append(options, sealkeeptest.WithEnv(name, value))
	}
	return f.Another(t, vaulttest.Config{Options: append(options, uncached()...)})
}

func fill(t *testing.T, r *vaulttest.Rotator, want int64) {
	t.Helper()
	if did, err := r.Rewrap(t.Context()); did.Done != want || err != nil {
		t.Errorf("%+v, want %d: %v", did, want, err)
	}
}

func TestANewPrimaryKeyTakesThePlaceOfOneThatIsGoneForGood(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct{ alias string }{"by its ARN": {}, "by an alias": {alias: "alias/next"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, recovery := recoverable(t)
			put(t, f.Vault, "a")
			f.kms.State(t, f.key, kmsd.Disabled)
			next := f.kms.CreateKey(t, kmsd.CreateKey{Alias: one.alias})
			switched := map[string]string{"VAULT_KMS_KEY_ID": next}
			if one.alias != "" {
				switched["VAULT_KMS_KEY_ID"] = one.alias
			}
			saving := maps.Clone(switched)
			saving["VAULT_KMS_USE_RECOVERY"] = "true"

			f.kms.State(t, next, kmsd.Disabled)
			saved := f.serves(t, saving)
			put(t, saved, "b") // by the recovery key alone
			rotator := f.Rotator(t, saving)
			if did, err := rotator.Rewrap(t.Context()); did.Done != 0 || err == nil {
				t.Errorf("under a key that is away: %+v, %v", did, err)
			}
			for _, name := range []string{"a", "b"} {
				want(t, saved, name, http.StatusOK)
			}
			f.kms.State(t, next, kmsd.Enabled)
			lack := "2 versions lack the wrapping"
			f.shows(t, saving, "doctor", lack, "4 of the vault's own keys lack", "nothing was found")
			f.shows(t, saving, "keyring list", f.key, recovery, "lacks a wrapping")
			f.shows(t, saving, "keyring fill", "4 keys were wrapped again")
			f.shows(t, saving, "keyring fill", "every key is wrapped as it should be")
			fill(t, rotator, 2)
			fill(t, rotator, 0)
			if n := rotator.Metric(t, "sealkeep_vault_versions_lacking_wrapping"); n != 0 {
				t.Errorf("%v versions are told to lack a wrapping", n)
			}
			if _, out := f.command(t, saving, "doctor"); strings.Contains(out, "lack") {
				t.Errorf("filled, something lacks still:\n%s", out)
			}

			f.kms.State(t, recovery, kmsd.Disabled) // so that it is the new key that opens
			back := f.serves(t, switched)
			for _, name := range []string{"a", "b"} {
				want(t, back, name, http.StatusOK)
			}
			f.shows(t, switched, "doctor --against-audit", "nothing was found")
			_, listed := f.command(t, switched, "keyring", "list", "--json")
			var keys struct {
				Items []struct {
					KMS      string `json:"kms_key_id"`
					Recovery string `json:"recovery_kms_key_id"`
				}
			}
			if err := json.Unmarshal([]byte(listed), &keys); err != nil || len(keys.Items) != 4 {
				t.Fatalf("%v:\n%s", err, listed)
			}
			for _, k := range keys.Items {
				if k.KMS != next || k.Recovery != recovery {
					t.Errorf("wrapped under %s and %s", k.KMS, k.Recovery)
				}
			}
		})
	}
}

// To a vault in another Region the replica there is the key that wrapped already.
func TestAReplicaOfThePrimaryKeyIsNoOtherKey(t *testing.T) {
	t.Parallel()
	const elsewhere = "us-east-1"
	f, _ := recoverable(t)
	primary := f.kms.CreateKey(t, kmsd.CreateKey{MultiRegion: true})
	replica := f.kms.Replicate(t, primary, elsewhere)
	put(t, f.Vault, "a")
	here := f.Rotator(t, map[string]string{"VAULT_KMS_KEY_ID": primary, "VAULT_KMS_USE_RECOVERY": "true"})
	fill(t, here, 1)
	for _, key := range []string{primary, replica} {
		there := f.Rotator(t, map[string]string{"VAULT_KMS_KEY_ID": key, "VAULT_KMS_USE_RECOVERY": "true", "AWS_REGION": elsewhere})
		fill(t, there, 0)
	}
}

func TestTheMetricTellsWhatLacksAWrappingStill(t *testing.T) {
	t.Parallel()
	f, recovery := recoverable(t)
	f.kms.State(t, recovery, kmsd.Disabled)
	put(t, f.Vault, "a")
	rotator := f.Rotator(t, nil)
	if _, err := rotator.Rewrap(t.Context()); err == nil {
		t.Error("it was filled under a key that is away")
	}
	if n := rotator.Metric(t, "sealkeep_vault_versions_lacking_wrapping"); n != 1 {
		t.Errorf("%v versions are told to lack a wrapping", n)
	}
	f.kms.State(t, recovery, kmsd.Enabled)
	fill(t, rotator, 1)
	if n := rotator.Metric(t, "sealkeep_vault_versions_lacking_wrapping"); n != 0 {
		t.Errorf("filled, %v versions are told to lack a wrapping", n)
	}
}

func TestACommandSaysOnceWhatKMSDeniesAndWhatHelps(t *testing.T) {
	t.Parallel()
	f, _ := recoverable(t)
	const remedy = "VAULT_KMS_USE_RECOVERY=true"
	f.kms.Deny(t, f.key, "Decrypt")
	_, out := f.command(t, nil, "keyring", "list")
	if strings.Count(out, "access_denied") != 1 || !strings.Contains(out, "kms:Decrypt on "+f.key) || strings.Contains(out, remedy) {
		t.Errorf("denied:\n%s", out)
	}
	f.kms.Allow(t, f.key, "Decrypt")
	for _, state := range []string{kmsd.Disabled, kmsd.PendingDeletion} {
		f.kms.State(t, f.key, state)
		for _, command := range []string{"keyring list", "doctor", "token recover spare"} {
			_, out := f.command(t, nil, strings.Fields(command)...)
			if strings.Count(out, remedy) != 1 || strings.Count(out, "kms: Decrypt") != 1 || strings.Contains(out, "vault's own KMS key?") {
				t.Errorf("%s, and the key is %s:\n%s", command, state, out)
			}
		}
	}
	alias := map[string]string{"VAULT_KMS_KEY_ID": "alias/gone"}
	if _, out := f.command(t, alias, "keyring", "list"); strings.Count(out, remedy) != 1 || strings.Count(out, "not_found") != 1 {
		t.Errorf("an alias of none:\n%s", out)
	}
	if _, out := f.command(t, map[string]string{"VAULT_KMS_RECOVERY_KEY_ID": ""}, "keyring", "list"); strings.Contains(out, remedy) {
		t.Errorf("there is no recovery key:\n%s", out)
	}
}
