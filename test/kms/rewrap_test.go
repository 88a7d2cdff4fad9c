package kms_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmsd"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmstest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// aliased is a vault whose key is named by an alias, and knows a second one that it is to move to.
func aliased(t *testing.T) (f *fixture, next string) {
	t.Helper()
	server := kmstest.Start(t)
	former := server.CreateKey(t, kmsd.CreateKey{Alias: "alias/vault"})
	next = server.CreateKey(t, kmsd.CreateKey{})
	environ := maps.Clone(server.Environ("alias/vault"))
	environ["VAULT_KMS_ALLOWED_KEY_IDS"] = former + "," + next
	return &fixture{Vault: vaulttest.New(t, vaulttest.Config{KMS: environ, Options: uncached()}), kms: server, key: former}, next
}

// under counts the versions that are wrapped under a key, and those that aren't.
func (f *fixture) under(t *testing.T, key string) (under, others int64) {
	t.Helper()
	type counts struct{ Under, Others int64 }
	n := pgtest.Query[counts](t, f.DB, "SELECT count(*) FILTER (WHERE kms_key_id = $1), count(*) FILTER (WHERE kms_key_id <> $1) FROM vault.secret_versions", key)[0]
	return n.Under, n.Others
}

func (f *fixture) wantUnder(t *testing.T, key string, under, others int64) {
	t.Helper()
	if n, m := f.under(t, key); n != under || m != others {
		t.Errorf("%d versions are under the key, and %d under others; want %d and %d", n, m, under, others)
	}
}

func TestI5_WhenAnAliasMovesEverythingMovesToItsKey(t *testing.T) {
	t.Parallel()
	f, next := aliased(t)
	const secrets = 40
	for i := range secrets {
		put(t, f.Vault, fmt.Sprint("s/", i))
	}
	var done atomic.Bool
	var reads atomic.Int64
	var readers sync.WaitGroup
	for reader := range 3 {
		readers.Go(func() {
			for i := reader; !done.Load(); i++ {
				if status := get(t, f.Vault, fmt.Sprint("s/", i%secrets)); status != http.StatusOK {
					t.Errorf("a reader gets status %d", status)
					return
				}
				reads.Add(1)
			}
		})
	}
	f.kms.Alias(t, "alias/vault", next)
	rotator := f.Rotator(t, nil)
	encrypts := f.kms.Calls(t, "Encrypt")
	if did, err := rotator.Rewrap(t.Context()); did.Done != secrets || did.Failed != 0 || err != nil {
		t.Errorf("%+v, %v", did, err)
	}
	if n := f.kms.Calls(t, "ReEncrypt"); n != secrets {
		t.Errorf("%d calls for %d data keys", n, secrets)
	}
	if n := f.kms.Calls(t, "Encrypt") - encrypts; n != 0 {
		t.Errorf("%d data keys were wrapped outside of KMS", n)
	}
	after := reads.Load()
	vaulttest.Eventually(t, "they go on reading", func() bool { return reads.Load() > after+20 || t.Failed() })
	done.Store(true)
	readers.Wait()
	f.wantUnder(t, next, secrets, 0)

	f.shows(t, nil, "keyring list", "under another key")
	f.shows(t, nil, "keyring fill", "4 keys were wrapped again")
	f.shows(t, nil, "keyring fill", "every key is wrapped as it should be")
	f.kms.State(t, f.key, kmsd.Disabled)
	cold := f.serves(t, map[string]string{"VAULT_KMS_ALLOWED_KEY_IDS": ""}) // the former key isn't even allowed
	for i := range secrets {
		want(t, cold, fmt.Sprint("s/", i), http.StatusOK)
	}
	f.shows(t, map[string]string{"VAULT_KMS_ALLOWED_KEY_IDS": ""}, "doctor --against-audit", "nothing was found")
	f.VerifyClean(t)
}

func TestRewrap_GoesOnAfterKMSWasKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	f, next := aliased(t)
	for i := range 20 {
		put(t, f.Vault, fmt.Sprint("s/", i))
	}
	f.kms.Alias(t, "alias/vault", next)
	stop := &stopAfter{n: 8, do: func() { f.kms.Kill(t) }}
	did, err := f.Rotator(t, map[string]string{"VAULT_KMS_MAX_RETRIES": "0"}, stop.tune).Rewrap(t.Context())
	if err == nil || did.Done != 8 {
		t.Errorf("%+v, %v", did, err)
	}
	f.wantUnder(t, next, 8, 12)
	f.kms.Restart(t)
	before := f.kms.Calls(t, "ReEncrypt")
	if did, err := f.Rotator(t, nil).Rewrap(t.Context()); did.Done != 12 || err != nil {
		t.Errorf("%+v, %v", did, err)
	}
	if n := f.kms.Calls(t, "ReEncrypt") - before; n != 12 {
		t.Errorf("%d calls for the rest", n)
	}
	f.wantUnder(t, next, 20, 0)
	f.VerifyClean(t)
}

// stopAfter does something once n data keys were wrapped again.
type stopAfter struct {
	vault.Rewrapper
	n  int
	do func()
}

func (s *stopAfter) tune(cfg *vault.Config) { s.Rewrapper, cfg.Rewrapper = cfg.Rewrapper, s }

func (s *stopAfter) Fill(ctx context.Context, stored kms.Stored, ec kms.Context) ([]byte, string, error) {
	if s.n == 0 {
		s.do()
	}
	s.n--
	return s.Rewrapper.Fill(ctx, stored, ec)
}

func TestRewrap_AKeyThatCantBeAskedHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	f, next := aliased(t)
	third := f.kms.CreateKey(t, kmsd.CreateKey{})
	allowed := map[string]string{"VAULT_KMS_ALLOWED_KEY_IDS": f.key + "," + next + "," + third}
	put(t, f.Vault, "first/a")
	put(t, f.Vault, "first/b")
	f.kms.Alias(t, "alias/vault", next)
	put(t, f.Vault, "second/a")
	put(t, f.Vault, "second/b")
	f.kms.Alias(t, "alias/vault", third)
	rotator := f.Rotator(t, allowed)
	f.kms.State(t, f.key, kmsd.Disabled)
	did, err := rotator.Rewrap(t.Context())
	if did.Done != 2 || did.Failed != 2 || err == nil || !strings.Contains(err.Error(), "disabled") {
		t.Errorf("%+v, %v", did, err)
	}
	f.wantUnder(t, third, 2, 2)
	if n := f.kms.Calls(t, "ReEncrypt"); n != 3 {
		t.Errorf("%d calls: the disabled key was asked more than once", n)
	}
	f.kms.State(t, f.key, kmsd.Enabled)
	f.kms.Deny(t, f.key, "ReEncryptFrom")
	if did, err := rotator.Rewrap(t.Context()); did.Done != 0 || err == nil || !strings.Contains(err.Error(), "access_denied") {
		t.Errorf("%+v, %v", did, err)
	}
	f.kms.Allow(t, f.key, "ReEncryptFrom")
	if did, err := rotator.Rewrap(t.Context()); did.Done != 2 || err != nil {
		t.Errorf("%+v, %v", did, err)
	}
	f.wantUnder(t, third, 4, 0)
}

func TestRewrap_PassesOverADamagedVersionWithAnAlarm(t *testing.T) {
	t.Parallel()
	f, next := aliased(t)
	for i := range 4 {
		put(t, f.Vault, fmt.Sprint("s/", i))
	}
	names := pgtest.Query[string](t, f.DB, "SELECT name FROM vault.secrets ORDER BY id LIMIT 2")
	f.DB.Exec(t, `UPDATE vault.secret_versions SET wrapped_dek = set_byte(wrapped_dek, 60, get_byte(wrapped_dek, 60) # 1)
		WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = $1)`, names[0])
	// That of another secret: true in itself, and KMS refuses it here.
	f.DB.Exec(t, `UPDATE vault.secret_versions SET wrapped_dek = (SELECT wrapped_dek FROM vault.secret_versions ORDER BY secret_id DESC LIMIT 1)
		WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = $1)`, names[1])
	f.kms.Alias(t, "alias/vault", next)
	rotator := f.Rotator(t, nil)
	if did, err := rotator.Rewrap(t.Context()); did.Done != 2 || did.Failed != 2 || err != nil {
		t.Errorf("%+v, %v", did, err)
	}
	f.wantUnder(t, next, 2, 2)
	if n := rotator.Metric(t, "sealkeep_vault_integrity_failures_total"); n != 2 {
		t.Errorf("%v alarms", n)
	}
	if n := pgtest.Query[int](t, f.DB, "SELECT count(*) FROM vault.audit_log WHERE action = 'secret.rewrap' AND outcome = 'unverifiable'")[0]; n != 2 {
		t.Errorf("%d records of the damage", n)
	}
	f.VerifyClean(t)
}

func TestRewrap_FollowsTheRotationOfAKeysMaterial(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for i := range 3 {
		put(t, f.Vault, fmt.Sprint("s/", i))
	}
	rotator := f.Rotator(t, nil)
	rewraps := func(why string, want int64) {
		t.Helper()
		if did, err := rotator.Rewrap(t.Context()); did.Done != want || err != nil {
			t.Errorf("%s: %+v, %v; want %d", why, did, err, want)
		}
	}
	rewraps("nothing was rotated", 0)
	f.kms.Rotate(t, f.key)
	rewraps("a rotation counts once it is the same everywhere", 0)
	for range 120 { // more than a page
		f.kms.RotatedAgo(t, f.key, 24*time.Hour)
	}
	rewraps("what is newer than a rotation is under its material", 0)
	age := func() {
		f.Made(t, "UPDATE vault.secret_versions SET created_at = now() - interval '3 hours', wrapped_at = now() - interval '2 hours'")
		f.kms.RotatedAgo(t, f.key, time.Hour)
	}
	age()
	rewraps("rotated an hour ago", 3)
	rewraps("once", 0)
	for i := range 3 {
		want(t, f.Vault, fmt.Sprint("s/", i), http.StatusOK)
	}

	t.Run("and says so if it can't see it", func(t *testing.T) {
		f.kms.Deny(t, f.key, "ListKeyRotations")
		age()
		blind := f.Rotator(t, nil)
		if did, err := blind.Rewrap(t.Context()); did.Done != 0 || err != nil {
			t.Errorf("%+v, %v", did, err)
		}
		f.shows(t, nil, "rewrap --all", "asked", "note: it isn't known when the material of "+f.key, "kms:ListKeyRotations")
		if did, err := blind.Rewrap(t.Context()); did.Done != 3 || err != nil {
			t.Errorf("asked for by hand: %+v, %v", did, err)
		}
		var status struct {
			Rewrap struct {
				State string
				Done  int
				Note  string
			}
			KMS struct{ State string }
		}
		f.Do(t, http.MethodGet, "/v1/status", nil).Want(t, http.StatusOK).Decode(t, &status)
		if status.Rewrap.State != "done" || status.Rewrap.Done != 3 || !strings.Contains(status.Rewrap.Note, "ListKeyRotations") {
			t.Errorf("%+v", status)
		}
	})
	f.VerifyClean(t)
}

// Both wrappings count: while there is a recovery key, moving the first one leaves the other as it is.
func TestRewrap_MovesOneOfTwoWrappings(t *testing.T) {
	t.Parallel()
	f, _ := recoverable(t)
	put(t, f.Vault, "a")
	next := f.kms.CreateKey(t, kmsd.CreateKey{})
	moved := map[string]string{"VAULT_KMS_KEY_ID": next, "VAULT_KMS_ALLOWED_KEY_IDS": f.key}
	rotator := f.Rotator(t, moved)
	encrypts := f.kms.Calls(t, "Encrypt")
	fill(t, rotator, 1)
	fill(t, rotator, 0)
	if n := f.kms.Calls(t, "Encrypt") - encrypts; n != 0 {
		t.Errorf("the recovery key was asked %d times", n)
	}
	f.shows(t, moved, "keyring fill", "4 keys were wrapped again")
	f.shows(t, map[string]string{"VAULT_KMS_KEY_ID": next}, "doctor --against-audit", "nothing was found")
	f.kms.State(t, f.key, kmsd.Disabled)
	want(t, f.serves(t, map[string]string{"VAULT_KMS_KEY_ID": next}), "a", http.StatusOK)
	f.kms.State(t, next, kmsd.Disabled)
	want(t, f.serves(t, map[string]string{"VAULT_KMS_KEY_ID": next, "VAULT_KMS_USE_RECOVERY": "true"}), "a", http.StatusOK)
}

// The keeper alone: what KMS is asked to move stays in its place, under a key that is allowed, and KMS must say what it did.
func TestI5_AKeyIsMovedInItsPlaceAndFromAnAllowedKeyAlone(t *testing.T) {
	t.Parallel()
	s := kmstest.Start(t)
	former, next, stranger := s.CreateKey(t, kmsd.CreateKey{}), s.CreateKey(t, kmsd.CreateKey{}), s.CreateKey(t, kmsd.CreateKey{})
	allowed, err := kms.ParseARNs(former)
	if err != nil {
		t.Fatal(err)
	}
	open := func(key string) *kms.AWS {
		keeper, err := kms.NewAWS(t.Context(), kms.AWSConfig{KeyID: key, Allowed: allowed, Region: kmstest.Region, Endpoint: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(keeper.Close)
		return keeper
	}
	here, elsewhere := kms.NewContext(kms.Text("name", "a")), kms.NewContext(kms.Text("name", "b"))
	made, err := open(former).GenerateDataKey(t.Context(), here)
	if err != nil {
		t.Fatal(err)
	}
	defer made.Plaintext.Release()
	keeper := open(next)
	if _, _, err := keeper.ReEncrypt(t.Context(), made.Wrapped, former, elsewhere); !errors.Is(err, kms.ErrInvalidCiphertext) {
		t.Errorf("in another place: %v", err)
	}
	before := s.Calls(t, "ReEncrypt")
	if _, _, err := keeper.ReEncrypt(t.Context(), made.Wrapped, stranger, here); !errors.Is(err, kms.ErrUnknownKey) || s.Calls(t, "ReEncrypt") != before {
		t.Errorf("from a key that isn't allowed: %v", err)
	}
	s.Misbehave(t, kmsd.Fault{Lie: true})
	if _, _, err := keeper.ReEncrypt(t.Context(), made.Wrapped, former, here); !errors.Is(err, kms.ErrUnknownKey) {
		t.Errorf("KMS names another key: %v", err)
	}
	s.Misbehave(t, kmsd.Fault{})
	moved, movedID, err := keeper.ReEncrypt(t.Context(), made.Wrapped, former, here)
	if err != nil || movedID != next {
		t.Fatalf("moved to %s: %v", movedID, err)
	}
	opened, err := keeper.Decrypt(t.Context(), moved, movedID, here)
	if err != nil || !sensitive.Equal(opened, made.Plaintext) {
		t.Errorf("it doesn't open: %v", err)
	}
}
