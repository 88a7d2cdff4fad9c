package pgtarget

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgserver"
	"github.com/sealkeep/sealkeep/internal/target"
)

// standbyOf starts a standby that follows a server.
func standbyOf(t *testing.T, s *server) *server {
	t.Helper()
	binaries, err := pgserver.Find(os.Getenv, "")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(binaries.Dir, "pg_basebackup")
	if _, err := os.Stat(program); err != nil {
		t.Skipf("needs pg_basebackup: %v", err)
	}
	dir, err := os.MkdirTemp("/tmp", "sealkeep-pgtarget-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // the server's user has to enter it
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	host, port, _ := strings.Cut(s.address, ":")
	cmd := exec.CommandContext(t.Context(), program, "-D", data, "-h", host, "-p", port, "-U", "postgres", "-X", "stream", "-c", "fast", "-N")
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+binaries.LibraryPath)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.DataDir())
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := filepath.WalkDir(data, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, int(owner.Uid), int(owner.Gid))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return startServer(t, pgserver.Config{Dir: dir, Settings: map[string]string{
		"primary_conninfo": fmt.Sprintf("host=%s port=%s user=postgres application_name=behind", host, port),
	}})
}

func TestStandby_IsTestedAndNeverChanged(t *testing.T) {
	t.Parallel()
	primary := startServer(t, pgserver.Config{})
	if err := primary.furnish(); err != nil {
		t.Fatal(err)
	}
	role := primary.role(t, "")
	standby := standbyOf(t, primary)
	both := newTarget(t, Config{Hosts: []string{standby.address, primary.address}, Standbys: []string{standby.address}})

	want(t, "Apply at a standby", standby.at(t, asksSCRAM).Apply(t.Context(), role, fresh(t, role), 1), target.Transient, "none of the hosts")
	want(t, "Try at a standby", standby.at(t, asksSCRAM).Try(t.Context(), role), target.Transient, "none of the hosts")

	standby.exec(t, "SELECT pg_wal_replay_pause()")
	standby.until(t, "SELECT pg_get_wal_replay_pause_state() = 'paused'")
	next := fresh(t, role)
	want(t, "Apply, the standby being the first host", both.Apply(t.Context(), role, next, 1), "")
	want(t, "Test at the primary alone", primary.at(t, asksSCRAM).Test(t.Context(), next), "")
	want(t, "Test at a standby that is behind", both.Test(t.Context(), next), target.Transient, "it is behind")
	// The standby, which has the old password still, gives no verdict on it for the primary.
	want(t, "the old password", both.Test(t.Context(), role), target.Authentication)
	want(t, "the new password at the first host, which doesn't know it", both.Try(t.Context(), next), "")

	standby.exec(t, "SELECT pg_wal_replay_resume()")
	at := primary.value(t, "SELECT pg_current_wal_flush_lsn()")
	standby.until(t, "SELECT pg_last_wal_replay_lsn() >= "+literal(at)+"::pg_lsn")
	want(t, "Test at both", both.Test(t.Context(), next), "")

	t.Run("that lets anybody in is found", func(t *testing.T) {
		hba := filepath.Join(standby.DataDir(), "pg_hba.conf")
		if err := os.WriteFile(hba, []byte("local all all trust\nhost all all 127.0.0.1/32 trust\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := standby.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		want(t, "Test", both.Test(t.Context(), next), target.Permanent, standby.address, "without a password")
	})
}

// A commit waits for the synchronous standby, here one that there is not. Our own limits don't cut the wait short; if somebody else
// does, it has succeeded on the primary alone.
func TestI13_ACommitThatReachedNoSynchronousStandbyIsTransient(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgserver.Config{})
	if err := s.furnish(); err != nil {
		t.Fatal(err)
	}
	roles := []target.Credential{s.role(t, ""), s.role(t, "")}
	for _, role := range roles {
		s.exec(t, fmt.Sprintf("ALTER ROLE %s SET synchronous_commit = off", identifier(role.Username)))
		s.exec(t, fmt.Sprintf("ALTER ROLE %s SET client_min_messages = error", identifier(role.Username)))
	}
	s.exec(t, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	s.exec(t, "SELECT pg_reload_conf()")
	s.until(t, "SELECT current_setting('synchronous_standby_names') = 'nobody'")
	const waits = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"

	impatient := newTarget(t, Config{Hosts: []string{s.address}, Timeout: limit / 40})
	want(t, "a limit of ours", impatient.Apply(t.Context(), roles[0], fresh(t, roles[0]), 1), target.Transient, "it is not known")
	if s.value(t, "SELECT count(*) "+waits) != "1" {
		t.Error("the server doesn't wait any more")
	}
	s.exec(t, "SELECT pg_cancel_backend(pid) "+waits)
	s.until(t, "SELECT count(*) = 0 "+waits)

	done := make(chan error)
	next := fresh(t, roles[1])
	go func() { done <- s.at(t, asksSCRAM).Apply(t.Context(), roles[1], next, 1) }()
	for s.value(t, "SELECT bool_or(pg_cancel_backend(pid)) "+waits) != "true" {
		select {
		case err := <-done:
			t.Fatalf("it waited for nobody: %v", err)
		default:
		}
	}
	want(t, "a limit of somebody else's", <-done, target.Transient, "synchronous standby")
	want(t, "the new password", s.at(t, asksSCRAM).Test(t.Context(), next), "")
}
