package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A server that was told to end at once needs no more than this; its own limit for its children is 5 s.
const immediateLimit = 8 * time.Second

// process is one run of the postmaster.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// launch starts the postmaster and waits until it accepts connections.
func (s *Server) launch(ctx context.Context) error {
	if err := clearSocketLock(s.SocketDir(), s.Port()); err != nil {
		return err
	}
	for {
		log, err := s.openLog()
		if err != nil {
			return err
		}
		err = s.spawn(log)
		if err == nil {
			err = s.waitReady(ctx)
		}
		if err != nil {
			text := logSince(log)
			// Sessions of a postmaster that was killed outlive it for a moment, and it is their data still.
			if strings.Contains(text, "pre-existing shared memory block") && pause(ctx, 200*time.Millisecond) {
				_ = log.Close()
				continue
			}
			err = errors.Join(fmt.Errorf("PostgreSQL did not start: %w: %s", err, lastLines([]byte(text), 5)), s.crash())
		}
		_ = log.Close()
		return err
	}
}

// spawn starts the postmaster on the given log.
func (s *Server) spawn(log *logFile) error {
	//nolint:gosec // from the folder that Find accepted; no context, as it outlives the one that bounds its start
	cmd := exec.CommandContext(context.Background(), filepath.Join(s.binaries.Dir, "postgres"), s.arguments()...)
	cmd.Stdout, cmd.Stderr = log.File, log.File
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", environment(s.binaries.LibraryPath), s.account.attributes()
	if err := cmd.Start(); err != nil {
		return s.cannotRun("postgres", err)
	}
	first := syscall.SIGINT
	if s.place.temporary {
		first = syscall.SIGQUIT
	}
	s.watchdog.watch(cmd.Process.Pid, first)
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func(dog *watchdog) {
		_ = cmd.Wait() // how it ended is in its log
		dog.rest()     // its number may soon be another's
		close(p.done)
	}(s.watchdog)
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	return nil
}

// arguments are the postmaster's: what we need, over what the caller set, over our defaults.
func (s *Server) arguments() []string {
	settings := map[string]string{
		"jit": "off", // the provider's libraries may not be there
	}
	if !s.config.Durable {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	maps.Copy(settings, s.config.Settings)
	maps.Copy(settings, map[string]string{
		"listen_addresses":        "",
		"port":                    strconv.Itoa(s.Port()),
		"unix_socket_directories": s.SocketDir(),
		"unix_socket_permissions": "0700",
	})
	if s.config.TCPPort != 0 {
		settings["listen_addresses"] = "127.0.0.1"
	}
	args := []string{"-D", s.place.data}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// waitReady reads postmaster.pid, as pg_ctl does: that takes no connection and leaves no failures in the log.
func (s *Server) waitReady(ctx context.Context) error {
	p := s.process
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		file, err := readPIDFile(s.place.data)
		if err != nil {
			return err
		}
		if file.ready && file.pid == p.cmd.Process.Pid {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.done:
			return errors.New("the server ended")
		case <-tick.C:
		}
	}
}

// shutdown ends the postmaster in order, or at once when the context ends.
func (s *Server) shutdown(ctx context.Context) error {
	p := s.process
	if p == nil || p.ended() {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return s.crash()
	}
}

// crash ends the postmaster and its sessions at once.
func (s *Server) crash() error {
	p := s.process
	if p == nil || p.ended() {
		return nil
	}
	for _, signal := range []os.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		_ = p.cmd.Process.Signal(signal)
		timer := time.NewTimer(immediateLimit)
		select {
		case <-p.done:
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
	return fmt.Errorf("the PostgreSQL server %d does not end", p.cmd.Process.Pid)
}

// logFile is the server's log, with where it stood when we opened it.
type logFile struct {
	*os.File
	start int64
}

// maxLogSize is where a log is set aside for a new one at the next start.
const maxLogSize = 8 << 20

func (s *Server) openLog() (*logFile, error) {
	path := s.config.LogFile
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() > maxLogSize {
		if err := os.Rename(path, path+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the log of PostgreSQL: %w", err)
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &logFile{File: f, start: end}, nil
}

// logSince returns what the server wrote since the log was opened, at most 64 KiB.
func logSince(log *logFile) string {
	text, _ := io.ReadAll(io.NewSectionReader(log.File, log.start, 64<<10))
	return string(text)
}

// pause waits, and tells whether there is time left to go on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// closeInheritedOnExec marks what our parent left open to us: a job server's pipe, a terminal, a log. Go marks
// its own descriptors, and undoes the mark for those that a child is given by name.
func closeInheritedOnExec() {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}
