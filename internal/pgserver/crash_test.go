package pgserver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childVariable makes the test binary start a server, tell about it and wait to be killed.
const childVariable = "SEALKEEP_PGSERVER_TEST_CHILD"

// report is what the child tells.
type report struct {
	Postmaster, Watchdog int
	URL, Sockets, Dir    string
}

func runChild(config string) {
	var c Config
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fail(json.Unmarshal([]byte(config), &c))
	b, err := Find(os.Getenv, "")
	fail(err)
	s, err := Start(context.Background(), b, c)
	fail(err)
	fail(json.NewEncoder(os.Stdout).Encode(report{
		Postmaster: s.PID(), Watchdog: s.watchdog.cmd.Process.Pid, URL: s.URL("postgres", "postgres"),
		Sockets: s.SocketDir(), Dir: s.place.dir,
	}))
	select {}
}

// startChild runs a server in a process of its own, which kill ends as kill -9 does.
func startChild(t *testing.T, c Config) (report, func()) {
	t.Helper()
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(config))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatal(err)
	}
	return r, kill
}

// eventually waits for what another process does; the limit only keeps a failure from hanging.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	if ok, err := waitUntil(t.Context(), time.Minute, condition); !ok {
		t.Fatalf("%s does not happen: %v", what, err)
	}
}

// gone tells whether a process has ended, also when nobody has asked yet how.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return !alive(pid) || err == nil && strings.Contains(string(stat), ") Z ")
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}

func TestWatchdog_KilledParentLeavesNothingOfATemporaryServer(t *testing.T) {
	t.Parallel()
	r, kill := startChild(t, Config{})
	query(t, r.URL, "SELECT 'up'")
	kill()
	eventually(t, "the end of the server", func() bool { return gone(r.Postmaster) })
	eventually(t, "the removal of its folder", func() bool { return missing(r.Dir) && missing(r.Sockets) })
	eventually(t, "the end of the watchdog", func() bool { return gone(r.Watchdog) })
}

func TestWatchdog_KilledParentLeavesTheDataAlone(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	r, kill := startChild(t, Config{Dir: dir, Durable: true})
	query(t, r.URL, "CREATE TABLE kept AS SELECT 'kept' AS word")
	kill()
	eventually(t, "the end of the server", func() bool { return gone(r.Postmaster) })
	eventually(t, "the removal of its sockets", func() bool { return missing(r.Sockets) })
	s := start(t, setup(t), Config{Dir: dir})
	if got := query(t, s.URL("postgres", "postgres"), "SELECT word FROM kept"); got != "kept" {
		t.Errorf("the table holds %q", got)
	}
}

func TestStart_EndsTheServerThatAKilledParentLeft(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	r, kill := startChild(t, Config{Dir: dir})
	query(t, r.URL, "CREATE TABLE kept AS SELECT 'kept' AS word")
	if err := unix.Kill(r.Watchdog, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	kill()
	t.Cleanup(func() { os.RemoveAll(r.Sockets) }) // nobody is left to do so
	if !isPostmaster(r.Postmaster, filepath.Join(r.Dir, "data")) {
		t.Fatal("the server did not outlive its parent and its watchdog, so this proves nothing")
	}
	s := start(t, setup(t), Config{Dir: dir})
	if isPostmaster(r.Postmaster, filepath.Join(r.Dir, "data")) {
		t.Error("the server that was left runs on")
	}
	if got := query(t, s.URL("postgres", "postgres"), "SELECT word FROM kept"); got != "kept" {
		t.Errorf("the table holds %q", got)
	}
}

func TestStart_HeldFolderOfALiveProcessIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	r, kill := startChild(t, Config{Dir: dir})
	var inUse *InUseError
	if _, err := Start(t.Context(), setup(t), Config{Dir: dir}); !errors.As(err, &inUse) {
		t.Errorf("error %v; want an InUseError", err)
	}
	query(t, r.URL, "SELECT 'up'")
	kill()
	eventually(t, "the end of the watchdog", func() bool { return gone(r.Watchdog) })
}

// Process numbers come round again: those in the files of a server that crashed may name anybody.
func TestStart_NumbersOfOtherProcessesInStaleFilesDoNotMatter(t *testing.T) {
	t.Parallel()
	b, dir := setup(t), folder(t)
	sockets := filepath.Join(folder(t), "run")
	s := start(t, b, Config{Dir: dir, SocketDir: sockets})
	pid := s.PID()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.Done()

	// Of the server's own user, else it would know for itself that this is not a postmaster.
	bystander := exec.CommandContext(t.Context(), "/bin/sleep", "3600")
	bystander.SysProcAttr = s.account.attributes()
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = bystander.Process.Kill()
		_ = bystander.Wait()
	})
	for _, path := range []string{pidFilePath(s.DataDir()), filepath.Join(sockets, ".s.PGSQL.5432.lock")} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		stale := strings.Replace(string(text), strconv.Itoa(pid), strconv.Itoa(bystander.Process.Pid), 1)
		if err := os.WriteFile(path, []byte(stale), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	restart(t, s)
	query(t, s.URL("postgres", "postgres"), "SELECT 'up'")
	if !alive(bystander.Process.Pid) {
		t.Error("a process that has nothing to do with it was ended")
	}
}

func TestStart_UnfinishedInitdbIsDoneAgain(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	write(t, filepath.Join(dir, "data.unfinished/PG_VERSION"), "15\n")
	s := start(t, setup(t), Config{Dir: dir})
	query(t, s.URL("postgres", "postgres"), "SELECT 'up'")
	if !missing(filepath.Join(dir, "data.unfinished")) {
		t.Error("the unfinished folder is left behind")
	}
}

func TestServer_InheritsNothing(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	// A pipe as a parent might have left it open to us: without close-on-exec.
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pipe[0]); unix.Close(pipe[1]) })
	ours, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", pipe[1]))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, setup(t), Config{})
	for name, pid := range map[string]int{"the server": s.PID(), "the watchdog": s.watchdog.cmd.Process.Pid} {
		for fd := range 256 {
			if target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); err == nil && target == ours {
				t.Errorf("%s holds our pipe as descriptor %d", name, fd)
			}
		}
		session, err := unix.Getsid(pid)
		if err != nil || session != pid {
			t.Errorf("%s is in session %d, error %v; want its own, %d", name, session, err, pid)
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			t.Fatal(err)
		}
		for entry := range strings.SplitSeq(strings.TrimRight(string(text), "\x00"), "\x00") {
			switch name, _, _ := strings.Cut(entry, "="); name {
			case "PATH", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "PG_GRANDPARENT_PID", "PWD":
			default:
				t.Errorf("the environment of %d has %s", pid, name)
			}
		}
	}
}
