// Package vaulttest gives the tests of this module a whole vault whose database and master key the test has in hand: to put
// a proxy in front of the one, to stop, tamper with or search the other, and to verify what is left.
//
// Invariants:
//   - The process is the one of internal/sealkeeptest, as it is shipped; nothing in it is replaced.
//   - What is asked of the database here goes past the process and past any proxy, as the superuser.
package vaulttest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
	"github.com/sealkeep/sealkeep/test/pgproxy"
)

// Vault is a vault that serves on a loopback address.
type Vault struct {
	*sealkeeptest.Vault
	DB        *pgtest.Database // the vault's own; hides the one of the embedded Vault, which stays empty
	MasterKey string           // VAULT_LOCAL_MASTER_KEY; no vault uses it with AWS KMS

	kms map[string]string // of the environment
}

// Config says how a vault is made. The zero value is one on a database of its own, without a proxy.
type Config struct {
	Database *pgtest.Database
	Proxy    *pgproxy.Proxy
	// KMS is what the environment says of it; nil is what sealkeeptest.KMSEnviron gives.
	KMS     map[string]string
	Options []sealkeeptest.Option
}

// New returns a vault that serves, and stops it when the test ends.
func New(t testing.TB, c Config) *Vault {
	t.Helper()
	v := &Vault{DB: c.Database, kms: c.KMS}
	if v.kms == nil {
		v.kms = sealkeeptest.KMSEnviron(t)
	}
	if v.MasterKey = v.kms["VAULT_LOCAL_MASTER_KEY"]; v.MasterKey == "" {
		unused, err := kms.NewMasterKeyText(nil)
		if err != nil {
			t.Fatal(err)
		}
		v.MasterKey = string(unused)
	}
	if v.DB == nil {
		v.DB = pgtest.New(t)
	}
	token := v.initialise(t)
	v.serve(t, token, c)
	return v
}

// Another returns one more process of the same vault: on the same database, under the same key, with the same tokens. Of c the
// proxy and the options count.
func (v *Vault) Another(t testing.TB, c Config) *Vault {
	t.Helper()
	other := &Vault{DB: v.DB, MasterKey: v.MasterKey, kms: v.kms}
	other.serve(t, v.AdminToken, c)
	return other
}

// On returns a process on a database that holds a vault already, with its admin's token. Of c the database and the KMS must be given.
func On(t testing.TB, token string, c Config) *Vault {
	t.Helper()
	v := &Vault{DB: c.Database, kms: c.KMS, MasterKey: c.KMS["VAULT_LOCAL_MASTER_KEY"]}
	v.serve(t, token, c)
	return v
}

// serve starts the process.
func (v *Vault) serve(t testing.TB, token string, c Config) {
	t.Helper()
	through := func(string) string { return v.DB.URL("sealkeep_api") }
	if c.Proxy != nil {
		through = func(string) string {
			url, err := c.Proxy.Through(v.DB.TCPURL("sealkeep_api"))
			if err != nil {
				t.Fatal(err)
			}
			return url
		}
	}
	options := []sealkeeptest.Option{sealkeeptest.WithDatabaseURL(through)}
	for name, value := range v.kms {
		options = append(options, sealkeeptest.WithEnv(name, value))
	}
	options = append(options, c.Options...)
	v.Vault = sealkeeptest.New(t, options...)
	v.AdminToken = token
}

// initialise makes the vault and returns its first token.
func (v *Vault) initialise(t testing.TB) string {
	t.Helper()
	var token string
	v.offline(t, func(ctx context.Context, database *postgres.DB, keeper vault.Keeper) {
		issued, err := vault.Init(ctx, database, keeper, sensitive.Bytes{}, vault.Config{})
		if err != nil {
			t.Fatalf("initialising the vault: %v", err)
		}
		defer issued.Release()
		token = string(issued.Token.Reveal())
	})
	return token
}

// offline runs use with the database and the key keeper in hand, as offline commands have them.
func (v *Vault) offline(t testing.TB, use func(context.Context, *postgres.DB, vault.Keeper)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	cfg, err := boot.LoadOffline(v.OfflineEnviron())
	if err != nil {
		t.Fatal(err)
	}
	defer cfg.Release()
	database, keeper, release, err := boot.OpenOffline(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	use(ctx, database, keeper)
}

// OfflineEnviron is the environment of an offline command on this vault.
func (v *Vault) OfflineEnviron() map[string]string {
	environ := sealkeeptest.OfKMS(v.kms)
	environ["VAULT_DATABASE_URL"] = v.DB.URL("sealkeep_operator")
	return environ
}

// Verify walks the audit trail as `sealkeep audit verify --database` does.
func (v *Vault) Verify(t testing.TB) *audit.Report {
	t.Helper()
	var report *audit.Report
	v.offline(t, func(ctx context.Context, database *postgres.DB, keeper vault.Keeper) {
		id := v.ID(t)
		keys, err := vault.OpenKeyring(ctx, database, keeper, id, integrity.PurposeAudit)
		if err != nil {
			t.Fatal(err)
		}
		defer keys.Close()
		if report, err = audit.Verify(ctx, database, keys, id, nil); err != nil {
			t.Fatalf("the audit trail could not be checked: %v", err)
		}
	})
	return report
}

// Keys opens the keys of rows. They are closed when the test ends.
func (v *Vault) Keys(t testing.TB) *integrity.Keyring {
	t.Helper()
	var keys *integrity.Keyring
	v.offline(t, func(ctx context.Context, database *postgres.DB, keeper vault.Keeper) {
		var err error
		if keys, err = vault.OpenKeyring(ctx, database, keeper, v.ID(t)); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(keys.Close)
	return keys
}

// Made edits rows as the superuser and makes that count as the vault's own doing: see sealkeeptest.Reseal.
func (v *Vault) Made(t testing.TB, sql string, args ...any) {
	t.Helper()
	v.DB.Exec(t, sql, args...)
	sealkeeptest.Reseal(t, v.DB, v.Keys(t))
}

// VerifyClean fails the test unless the audit trail verifies and holds something.
func (v *Vault) VerifyClean(t testing.TB) *audit.Report {
	t.Helper()
	report := v.Verify(t)
	if report.Records == 0 {
		t.Error("the audit trail is empty, so that it verifies proves nothing")
	}
	for _, p := range report.Problems {
		t.Errorf("audit stream %s, record %d: %s", p.StreamID, p.Seq, p.What)
	}
	return report
}

// ID reads the vault's id.
func (v *Vault) ID(t testing.TB) uuid.UUID {
	t.Helper()
	return pgtest.Query[uuid.UUID](t, v.DB, "SELECT vault_id FROM vault.authz_state")[0]
}

// patience keeps what waits for something that never comes from hanging the test. No assertion rests on it.
const patience = 2 * time.Minute

// Eventually waits until condition holds.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("it does not come to this: %s", what)
		case <-again.C:
		}
	}
}
