package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pidFile is what a postmaster writes to postmaster.pid in its data folder: one fact a line.
type pidFile struct {
	pid   int
	ready bool // accepts connections, as a primary or as a standby
}

func pidFilePath(data string) string { return filepath.Join(data, "postmaster.pid") }

// readPIDFile returns the zero pidFile for a file that is missing or not yet written.
func readPIDFile(data string) (pidFile, error) {
	text, err := os.ReadFile(pidFilePath(data))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return pidFile{}, err
	}
	lines := strings.Split(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 0 {
		return pidFile{}, nil //nolint:nilerr // it is being written
	}
	f := pidFile{pid: pid}
	if len(lines) > 7 {
		status := strings.TrimSpace(lines[7])
		f.ready = status == "ready" || status == "standby"
	}
	return f, nil
}

// alive tells whether a process exists, whoever owns it.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// isPostmaster tells whether a process is the postmaster of a data folder: after a crash the number in
// postmaster.pid may by now be anybody's.
func isPostmaster(pid int, data string) bool {
	var args []string
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
		args = strings.Split(string(bytes.TrimRight(text, "\x00")), "\x00")
	} else if line, err := output("ps", "", "-o", "command=", "-p", strconv.Itoa(pid)); err == nil {
		args = strings.Fields(line)
	}
	// The children of a postmaster call themselves "postgres: …".
	if len(args) == 0 || filepath.Base(args[0]) != "postgres" {
		return false
	}
	if i := slices.Index(args, "-D"); i >= 0 && i+1 < len(args) {
		return samePath(args[i+1], data)
	}
	// One that was started by hand has its data folder as its working directory at least.
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && samePath(cwd, data)
}

func samePath(a, b string) bool {
	if a == b {
		return true
	}
	infoA, errA := os.Stat(a) //nolint:gosec // only looked at
	infoB, errB := os.Stat(b) //nolint:gosec // only looked at
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// endLeftover ends a server that still runs on the data folder, as its parent was killed, and makes sure that
// a number in postmaster.pid that now belongs to another process does not keep ours from starting. The caller
// holds the lock of the folder.
func endLeftover(ctx context.Context, data string) error {
	file, err := readPIDFile(data)
	if err != nil || file.pid == 0 || !alive(file.pid) {
		return err
	}
	if !isPostmaster(file.pid, data) {
		return disownPIDFile(data)
	}
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, 10 * time.Second}, {syscall.SIGQUIT, 6 * time.Second}, {syscall.SIGKILL, 2 * time.Second}} {
		if err := syscall.Kill(file.pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("ending the PostgreSQL server %d that was left running on %s: %w", file.pid, data, err)
		}
		ended, err := waitUntil(ctx, step.wait, func() bool { return !isPostmaster(file.pid, data) })
		if err != nil {
			return err
		}
		if ended {
			return nil
		}
	}
	return fmt.Errorf("the PostgreSQL server %d that was left running on %s does not end", file.pid, data)
}

// disownPIDFile puts our own number into postmaster.pid. A postmaster takes its parent's number there for a
// stale one, and goes on to check that no process uses the shared memory that the file names; removing the
// file would remove that protection of the data too.
func disownPIDFile(data string) error {
	path := pidFilePath(data)
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "\n")
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"+rest), 0)
	return err
}

// clearSocketLock removes the lock beside the socket when its number now belongs to another process. The folder
// is private and the caller holds the lock of the data, so a server that is not a postmaster at all is stale.
func clearSocketLock(dir string, port int) error {
	socket := filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", port))
	text, err := os.ReadFile(socket + ".lock")
	if err != nil {
		return nil //nolint:nilerr // no lock, or one that the server itself will judge
	}
	lines := strings.Split(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err == nil && alive(pid) && len(lines) > 1 && isPostmaster(pid, lines[1]) {
		return fmt.Errorf("the socket folder %s is in use by the PostgreSQL server %d on %s", dir, pid, lines[1])
	}
	return errors.Join(removeIfThere(socket), removeIfThere(socket+".lock"))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// waitUntil polls a condition that nothing notifies of. It returns false when the time is over.
func waitUntil(ctx context.Context, limit time.Duration, condition func() bool) (bool, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if condition() {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-timer.C:
			return false, nil
		case <-tick.C:
		}
	}
}
