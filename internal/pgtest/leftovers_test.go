package pgtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// endingVariable makes TestProcess, run in a process of its own, end in the way that it names.
const endingVariable = "SEALKEEP_PGTEST_ENDING"

// started is what TestProcess tells before it ends.
type started struct {
	Database, Data string
	Postmaster     int
}

// TestProcess is the body of the processes that the tests below start.
func TestProcess(t *testing.T) {
	ending := os.Getenv(endingVariable)
	if ending == "" {
		t.Skip("runs in a process of its own")
	}
	d := New(t)
	s := started{Database: d.Name(), Data: Query[string](t, d, "SELECT current_setting('data_directory')")[0]}
	pidFile, err := os.ReadFile(filepath.Join(s.Data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(pidFile), "\n")
	if s.Postmaster, err = strconv.Atoi(line); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		t.Fatal(err)
	}
	switch ending {
	case "exit":
		os.Exit(3)
	case "panic":
		panic("as a test may")
	case "kill":
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		t.Fatal(err)
	}
}

// runProcess runs TestProcess to its end and returns what it told.
func runProcess(t *testing.T, ending string, environment ...string) started {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcess$")
	cmd.Env = append(os.Environ(), endingVariable+"="+ending)
	cmd.Env = append(cmd.Env, environment...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(out)
	line, readErr := reader.ReadBytes('\n')
	rest, _ := io.Copy(io.Discard, reader)
	if err := cmd.Wait(); (err == nil) != (ending == "return") {
		t.Errorf("the process ended with %v", err)
	}
	var s started
	if readErr != nil || json.Unmarshal(line, &s) != nil {
		t.Fatalf("the process told nothing: %v, %d more bytes", readErr, rest)
	}
	return s
}

// eventually waits for what the watchdog of a process that has ended does; the limit only keeps a failure from
// hanging.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for range 6000 {
		if condition() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s does not happen", what)
}

func TestOwnServer_NothingIsLeftHoweverTheProcessEnds(t *testing.T) {
	t.Parallel()
	if os.Getenv(URLVariable) != "" {
		t.Skip("uses another server")
	}
	for _, ending := range []string{"return", "exit", "panic", "kill"} {
		t.Run(ending, func(t *testing.T) {
			s := runProcess(t, ending)
			eventually(t, "the removal of its folder", func() bool {
				_, err := os.Stat(filepath.Dir(s.Data))
				return errors.Is(err, os.ErrNotExist)
			})
			// Another process may have the number by now, but not with this folder.
			eventually(t, "the end of the server", func() bool {
				text, err := os.ReadFile("/proc/" + strconv.Itoa(s.Postmaster) + "/cmdline")
				return err != nil || !strings.Contains(string(text), s.Data)
			})
		})
	}
}

func TestNamedServer_IsUsedAndFreedOfDatabases(t *testing.T) {
	t.Parallel()
	s := NewServer(t, nil)
	database := func(name string) int {
		return Query[int](t, s.Database, "SELECT count(*) FROM pg_database WHERE datname = $1", name)[0]
	}
	all := func() int {
		return Query[int](t, s.Database, "SELECT count(*) FROM pg_database WHERE datname LIKE $1", externalPrefix+"%")[0]
	}
	for name, address := range map[string]string{
		"over the socket": s.Postgres.URL("postgres", "postgres"),
		"over TCP":        s.Postgres.TCPURL("postgres", "postgres"),
	} {
		t.Run(name, func(t *testing.T) {
			variable := URLVariable + "=" + address
			killed := runProcess(t, "kill", variable)
			if killed.Data != s.Postgres.DataDir() {
				t.Fatalf("the process used the server on %s", killed.Data)
			}
			if database(killed.Database) != 1 {
				t.Error("the process that was killed left no database, so this proves nothing")
			}
			// Its sessions end when the server notices, and its lock with them.
			eventually(t, "the end of its sessions", func() bool {
				return Query[int](t, s.Database, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")[0] == 0
			})
			runProcess(t, "return", variable)
			if n := all(); n != 0 {
				t.Errorf("%d databases of test processes are left", n)
			}
		})
	}
}

func TestNamedServer_DatabasesOfLiveProcessesStay(t *testing.T) {
	t.Parallel()
	s := NewServer(t, nil)
	address := s.Postgres.URL("postgres", "postgres")
	c, err := externalCluster(address)
	if err != nil {
		t.Fatal(err)
	}
	runProcess(t, "return", URLVariable+"="+address)
	if n := Query[int](t, s.Database, "SELECT count(*) FROM pg_database WHERE datname = $1", c.template())[0]; n != 1 {
		t.Error("another process dropped a database that is in use")
	}
	if err := c.stop(); err != nil {
		t.Error(err)
	}
}

func TestNamedServer_URLThatIsNoneIsAnError(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"host=/tmp user=postgres", "postgres:///no-user", "https://postgres@host/"} {
		if _, err := externalCluster(address); err == nil || !strings.Contains(err.Error(), URLVariable) {
			t.Errorf("%s: error %v", address, err)
		}
	}
}
