// Package restore brings a vault back from a dump, as docs/restore.md says, and from a copy of its files.
package restore

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/cli"
	"github.com/sealkeep/sealkeep/internal/pgserver"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type object = map[string]any

// program finds a PostgreSQL client program beside the server's, or in the path; "" if there is none.
func program(name string) string {
	if found, err := pgserver.Find(os.Getenv, ""); err == nil {
		if path := filepath.Join(found.Dir, name); exec.CommandContext(context.Background(), path, "--version").Run() == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// major is the major version of a client program.
func major(t *testing.T, path string) (version int) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), path, "--version").Output()
	if err == nil {
		_, err = fmt.Sscanf(string(out), filepath.Base(path)+" (PostgreSQL) %d", &version)
	}
	if err != nil {
		t.Fatalf("%s --version: %q, %v", path, out, err)
	}
	return version
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(name), err, out)
	}
}

// sealkeep runs an offline command.
func sealkeep(t *testing.T, environ map[string]string, args ...string) (status int, output string) {
	t.Helper()
	var out bytes.Buffer
	status = cli.Run(t.Context(), cli.Invocation{
		Program: "sealkeep", Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Environ: environ,
	})
	return status, out.String()
}

// dumped gives what a vault's database was while it was being used, in another cluster.
func dumped(t *testing.T, v *vaulttest.Vault) *pgtest.Database {
	t.Helper()
	dump, restore := program("pg_dump"), program("pg_restore")
	if dump == "" || restore == "" {
		t.Skip("this PostgreSQL has no pg_dump and pg_restore")
	}
	if server := pgtest.Query[int](t, v.DB, "SELECT current_setting('server_version_num')::int / 10000")[0]; major(t, dump) < server {
		t.Skipf("pg_dump of PostgreSQL %d is the newest here, and refuses a server of %d", major(t, dump), server)
	}
	file := filepath.Join(t.TempDir(), "vault.dump")
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = v.Try(t, http.MethodGet, "/v1/secrets/app/key", nil)
				_, _ = v.Try(t, http.MethodPut, "/v1/secrets/app/busy", object{"value": "x"})
				_, _ = v.Try(t, http.MethodPut, "/v1/secrets/app/busy", object{"value": "y"})
			}
		}
	})
	run(t, dump, "--format=custom", "--file="+file, "--dbname="+v.DB.URL(pgtest.Superuser))
	close(stop)
	load.Wait()

	fresh := pgtest.NewServer(t, nil).Database // migrated, with the group roles
	fresh.Exec(t, "DROP SCHEMA vault CASCADE")
	run(t, restore, "--exit-on-error", "--dbname="+fresh.URL(pgtest.Superuser), file)
	return fresh
}

// cloned gives what a vault's database was when the vault was stopped, in the same cluster: a copy of its files, as a base backup is.
func cloned(t *testing.T, v *vaulttest.Vault) *pgtest.Database {
	t.Helper()
	v.Stop(t)
	fresh, other := pgtest.NewEmpty(t), pgtest.NewEmpty(t)
	other.Exec(t, "DROP DATABASE "+fresh.Name())
	other.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+v.DB.Name()+"'")
	other.Exec(t, "CREATE DATABASE "+fresh.Name()+" TEMPLATE "+v.DB.Name())
	return fresh
}

func TestAVaultComesBack(t *testing.T) {
	t.Parallel()
	t.Run("from a dump", func(t *testing.T) {
		t.Parallel()
		comesBack(t, dumped, true)
	})
	t.Run("from a copy of its files", func(t *testing.T) {
		t.Parallel()
		comesBack(t, cloned, false)
	})
}

// comesBack copies a vault and uses the copy. moved tells that it is on another server then.
func comesBack(t *testing.T, copied func(*testing.T, *vaulttest.Vault) *pgtest.Database, moved bool) {
	t.Helper()
	keys := sealkeeptest.KMSEnviron(t)
	old := vaulttest.New(t, vaulttest.Config{KMS: keys})
	for _, name := range []string{"app/key", "app/busy", "app/gone"} {
		old.Do(t, http.MethodPost, "/v1/secrets", object{"name": name, "kind": "manual", "value": "the value of " + name, "grace_period_secs": 0}).Want(t, http.StatusCreated)
	}
	old.Do(t, http.MethodDelete, "/v1/secrets/app/gone", nil).Want(t, http.StatusNoContent)
	old.Do(t, http.MethodPost, "/v1/roles", object{"name": "reader", "permissions": []object{{"action": "read", "path": "app/*"}}}).Want(t, http.StatusCreated)
	token := old.Do(t, http.MethodPost, "/v1/tokens", object{"name": "reader", "role": "reader"}).Want(t, http.StatusCreated).Text("token")

	fresh := copied(t, old)
	restored := vaulttest.On(t, old.AdminToken, vaulttest.Config{
		Database: fresh, KMS: keys, Options: []sealkeeptest.Option{sealkeeptest.WithReadAuth("ip+token")},
	})
	if log := restored.Log.String(); strings.Contains(log, "the database was restored or failed over") != moved {
		t.Errorf("on another server: %v; the process says:\n%s", moved, log)
	}
	for _, as := range []string{restored.AdminToken, token} {
		got := restored.Do(t, http.MethodGet, "/v1/secrets/app/key", nil, sealkeeptest.WithToken(as)).Want(t, http.StatusOK).Text("value")
		if got != "the value of app/key" {
			t.Errorf("read %q", got)
		}
	}
	restored.Do(t, http.MethodGet, "/v1/secrets/app/gone", nil).Want(t, http.StatusNotFound)
	restored.Do(t, http.MethodPut, "/v1/secrets/app/key", object{"value": "changed"}).Want(t, http.StatusOK)
	restored.Do(t, http.MethodDelete, "/v1/tokens/reader", nil).Want(t, http.StatusNoContent)
	if report := restored.Verify(t); report.Found != 0 {
		t.Errorf("the restored trail: %+v", report.Problems)
	}
	if status, out := sealkeep(t, restored.OfflineEnviron(), "doctor", "--against-audit"); status != 0 || !strings.Contains(out, "nothing was found") {
		t.Errorf("doctor: status %d\n%s", status, out)
	}
	foreign := pgtest.Query[int64](t, fresh, `SELECT count(*) FROM vault.audit_streams s WHERE s.opened_at >
		(SELECT min(opened_at) FROM vault.audit_streams WHERE system_id = (SELECT system_identifier FROM pg_control_system())::text)
		AND system_id <> (SELECT system_identifier FROM pg_control_system())::text`)
	if foreign[0] != 0 {
		t.Errorf("%d streams were opened in the name of the old server", foreign[0])
	}

	t.Run("and not with another key", func(t *testing.T) {
		environ := restored.OfflineEnviron()
		if environ["VAULT_KMS_MODE"] != "local" {
			t.Log("with AWS KMS another key is another account's: the local keeper shows it")
		}
		environ["VAULT_KMS_MODE"], environ["VAULT_LOCAL_MASTER_KEY"] = "local", strings.Repeat("0badf00d", 8)
		if status, out := sealkeep(t, environ, "doctor"); status != 2 || !strings.Contains(out, "is this the vault's own KMS key?") {
			t.Errorf("doctor: status %d\n%s", status, out)
		}
		environ["VAULT_DATABASE_URL"] = fresh.URL("sealkeep_api")
		environ["VAULT_API_LISTEN"], environ["VAULT_TELEMETRY_LISTEN"], environ["VAULT_ALLOWED_IPS"] = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.0/8"
		cfg, err := boot.LoadAPI(environ)
		if err != nil {
			t.Fatal(err)
		}
		p, err := boot.NewAPI(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err == nil {
			p.Close()
			t.Fatal("a process starts")
		}
		if !strings.Contains(err.Error(), "is this the vault's own KMS key?") {
			t.Error(err)
		}
	})
}
