package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(childVariable); config != "" {
		runChild(config)
	}
	// As root, data may go outside the folder of a test, but not into the machine's own place for it.
	outside, err := os.MkdirTemp("/tmp", "sealkeep-pgserver-test-")
	if err == nil {
		err = os.Chmod(outside, 0o711)
	}
	if err != nil {
		panic(err)
	}
	publicParents = []string{filepath.Join(outside, "public")}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(outside)
		os.Exit(code)
	}))
}

func setup(t *testing.T) Binaries {
	t.Helper()
	b, err := Find(os.Getenv, "")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func start(t *testing.T, b Binaries, c Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), b, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Discard(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func query(t *testing.T, url, sql string, args ...any) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var result string
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&result); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(err)
	}
	return result
}

func restart(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// folder is a temporary folder that the server's user can enter, unlike t.TempDir's.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sealkeep-pgserver-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func ended(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

func TestServer_TemporaryFromStartToDiscard(t *testing.T) {
	t.Parallel()
	s, err := Start(t.Context(), setup(t), Config{Settings: map[string]string{"work_mem": "5MB"}})
	if err != nil {
		t.Fatal(err)
	}
	url := s.URL("postgres", "postgres")
	for setting, want := range map[string]string{
		"work_mem": "5MB", "fsync": "off", "listen_addresses": "", "server_encoding": "UTF8", "lc_collate": "C",
		"unix_socket_directories": s.SocketDir(), "data_directory": s.DataDir(),
	} {
		got := query(t, url, "SELECT coalesce((SELECT current_setting(name) FROM pg_settings WHERE name = $1), "+
			"(SELECT datcollate FROM pg_database WHERE datname = current_database()))", setting)
		if got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	if s.TCPURL("postgres", "postgres") != "" {
		t.Error("a server without TCP has a TCP URL")
	}
	if s.PID() == 0 || ended(s.Done()) {
		t.Error("a running server has no process id or is done")
	}
	dir := s.place.dir
	if err := s.Discard(); err != nil {
		t.Fatal(err)
	}
	if s.PID() != 0 || !ended(s.Done()) {
		t.Error("a discarded server still has a process")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left behind: %v", dir, err)
	}
	if err := s.Discard(); err != nil {
		t.Errorf("discarding twice: %v", err)
	}
}

func TestServer_OnlyItsUserCanReachTheSocket(t *testing.T) {
	t.Parallel()
	s := start(t, setup(t), Config{})
	info, err := os.Stat(s.SocketDir())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the socket folder has mode %v", info.Mode())
	}
	owner, err := ownerOf(info)
	if err != nil || owner.uid != s.account.uid {
		t.Errorf("the socket folder belongs to %v, error %v; want uid %d", owner.uid, err, s.account.uid)
	}
	if info, err = os.Stat(s.DataDir()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data folder: mode %v, error %v", info.Mode(), err)
	}
	if info, err = os.Stat(s.LogFile()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log: mode %v, error %v", info.Mode(), err)
	}
}

func TestServer_DataSurvivesStopAndRestart(t *testing.T) {
	t.Parallel()
	b, dir := setup(t), filepath.Join(folder(t), "dev")
	s := start(t, b, Config{Dir: dir, Durable: true, Superuser: "root of all"})
	url := s.URL("root of all", "postgres")
	if got := query(t, url, "SELECT current_setting('fsync') || current_setting('data_checksums')"); got != "onon" {
		t.Errorf("fsync and checksums: %q", got)
	}
	query(t, url, "CREATE TABLE kept AS SELECT 'kept' AS word")
	first := s.Done()
	restart(t, s)
	if !ended(first) || ended(s.Done()) {
		t.Error("Done does not follow the restart")
	}
	if got := query(t, url, "SELECT word FROM kept"); got != "kept" {
		t.Errorf("after a restart the table holds %q", got)
	}
	sockets := s.SocketDir()
	for range 2 {
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(sockets); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stop leaves %s behind: %v", sockets, err)
	}

	t.Run("in the same Server", func(t *testing.T) {
		restart(t, s)
		if got := query(t, url, "SELECT word FROM kept"); got != "kept" {
			t.Errorf("the table holds %q", got)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("in a new one", func(t *testing.T) {
		s := start(t, b, Config{Dir: dir, Superuser: "root of all"})
		if got := query(t, s.URL("root of all", "postgres"), "SELECT word FROM kept"); got != "kept" {
			t.Errorf("the table holds %q", got)
		}
	})
}

func TestServer_StopEndsSessionsAndWhenTheContextEndsDoesNotWait(t *testing.T) {
	t.Parallel()
	s := start(t, setup(t), Config{})
	conn, err := pgx.Connect(t.Context(), s.URL("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if !ended(s.Done()) {
		t.Error("Stop returned before the server ended")
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a session outlived the server")
	}
}

func TestServer_KillCrashesAndRestartRecovers(t *testing.T) {
	t.Parallel()
	s := start(t, setup(t), Config{})
	url := s.URL("postgres", "postgres")
	query(t, url, "CREATE TABLE kept AS SELECT 'kept' AS word")
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if !ended(s.Done()) {
		t.Error("Kill returned before the server ended")
	}
	restart(t, s)
	if got := query(t, url, "SELECT word FROM kept"); got != "kept" {
		t.Errorf("after a crash the table holds %q", got)
	}
	log, err := os.ReadFile(s.LogFile())
	if err != nil || !strings.Contains(string(log), "was not properly shut down") {
		t.Errorf("the server did not recover from a crash: %v", err)
	}
}

func TestServer_DoneTellsThatSomebodyElseEndedIt(t *testing.T) {
	t.Parallel()
	s := start(t, setup(t), Config{})
	if err := unix.Kill(s.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if s.PID() != 0 {
		t.Error("a dead server has a process id")
	}
	restart(t, s)
	query(t, s.URL("postgres", "postgres"), "SELECT 'up'")
}

func TestServer_TCPIsOnLoopbackAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var s *Server
	for range 5 { // a free port may be taken by the time that the server binds it
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := listener.Addr().(*net.TCPAddr).Port
		listener.Close()
		if s, err = Start(t.Context(), b, Config{TCPPort: port}); err == nil {
			break
		}
		t.Log(err)
	}
	if s == nil {
		t.Fatal("no server on TCP")
	}
	t.Cleanup(func() { _ = s.Discard() })
	url := s.TCPURL("postgres", "postgres")
	if got := query(t, url, "SELECT host(inet_server_addr()) || ' ' || current_setting('listen_addresses')"); got != "127.0.0.1 127.0.0.1" {
		t.Errorf("the server is at %s", got)
	}
	if got := query(t, s.URL("postgres", "postgres"), "SELECT coalesce(host(inet_server_addr()), 'socket')"); got != "socket" {
		t.Errorf("URL does not go over the socket: %s", got)
	}
}

func TestServer_SecondOnOneFolderIsToldWhoHoldsIt(t *testing.T) {
	t.Parallel()
	b, dir := setup(t), folder(t)
	s := start(t, b, Config{Dir: dir})
	_, err := Start(t.Context(), b, Config{Dir: dir})
	var inUse *InUseError
	if !errors.As(err, &inUse) || inUse.PID != os.Getpid() || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("error %v; want an InUseError that names process %d", err, os.Getpid())
	}
	query(t, s.URL("postgres", "postgres"), "SELECT 'still up'")
}

func TestServer_LongFolderStillGetsASocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), strings.Repeat("a", 120))
	s := start(t, setup(t), Config{Dir: dir})
	query(t, s.URL("postgres", "postgres"), "SELECT 'up'")
	if _, err := Start(t.Context(), s.binaries, Config{SocketDir: dir}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a socket folder that is too long: %v", err)
	}
}

func TestServer_KeepsTheSocketFolderItIsGiven(t *testing.T) {
	t.Parallel()
	sockets := filepath.Join(folder(t), "run")
	s := start(t, setup(t), Config{SocketDir: sockets})
	if s.SocketDir() != sockets {
		t.Errorf("the socket is in %s", s.SocketDir())
	}
	query(t, s.URL("postgres", "postgres"), "SELECT 'up'")
	if err := s.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(sockets); err != nil {
		t.Error(err)
	}
}

func TestStart_FailureSaysWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	parent := folder(t)
	for name, test := range map[string]struct {
		config Config
		want   string
	}{
		"a setting that does not exist": {Config{Settings: map[string]string{"no_such_setting": "1"}}, "no_such_setting"},
		"a folder that is not data":     {Config{Dir: filepath.Join(parent, "mine")}, "data"},
		"a log that can't be opened":    {Config{LogFile: parent}, "the log"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.config.Dir != "" {
				write(t, filepath.Join(test.config.Dir, "data/photo.jpg"), "")
			}
			s, err := Start(t.Context(), b, test.config)
			if err == nil {
				_ = s.Discard()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q does not say %q", err, test.want)
			}
		})
	}
	t.Run("a context that has ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Start(ctx, b, Config{}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestStart_RefusesDataOfAnotherMajorVersion(t *testing.T) {
	t.Parallel()
	b, dir := setup(t), folder(t)
	s := start(t, b, Config{Dir: dir})
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Major++
	_, err := Start(t.Context(), b, Config{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), BinariesVariable) {
		t.Errorf("error %v; want one that names %s", err, BinariesVariable)
	}
}
