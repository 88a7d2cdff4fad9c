package pgserver

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// initialize makes the data folder, unless it is there. initdb works under another name, so that a folder
// called data is always complete.
func (s *Server) initialize(ctx context.Context) error {
	p := s.place
	if p.link == "" {
		if complete, err := p.initialized(s.binaries); complete || err != nil {
			return err
		}
	}
	if err := p.clear(); err != nil {
		return err
	}
	unfinished := p.data + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := s.account.makePrivate(unfinished); err != nil {
		return err
	}
	if err := s.initdb(ctx, unfinished); err != nil {
		return err
	}
	if err := os.Rename(unfinished, p.data); err != nil {
		return err
	}
	if s.config.Durable {
		if err := syncFolder(p.home); err != nil {
			return err
		}
	}
	if p.link == "" {
		return nil
	}
	// A link to something that is gone may be in the way.
	_ = os.Remove(p.link)
	if err := os.Symlink(p.data, p.link); err != nil {
		return err
	}
	s.place.link = "" // from now on the data is here to stay
	return nil
}

func (s *Server) initdb(ctx context.Context, dir string) error {
	args := []string{
		"-D", dir, "-U", s.config.Superuser, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-instructions",
	}
	if s.config.Durable {
		args = append(args, "--data-checksums")
	} else {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.binaries.Dir, "initdb"), args...) //nolint:gosec // from the folder that Find accepted
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", environment(s.binaries.LibraryPath), s.account.attributes()
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return s.cannotRun("initdb", err)
	}
	s.watchdog.watch(cmd.Process.Pid, syscall.SIGINT)
	err := cmd.Wait()
	s.watchdog.rest()
	if ctx.Err() != nil {
		return fmt.Errorf("initdb was interrupted: %w", ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("initdb failed: %w: %s", err, lastLines(out.Bytes(), 5))
	}
	return nil
}

// cannotRun explains a program that was found by us and can't be started by the server's account.
func (s *Server) cannotRun(program string, err error) error {
	if s.account.other && !s.account.reaches(s.binaries.Dir) {
		return fmt.Errorf("user %s, who runs PostgreSQL because root may not, can't enter %s: %w",
			s.account.name, s.binaries.Dir, err)
	}
	return fmt.Errorf("starting %s: %w", program, err)
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// lastLines joins the last few lines of a program's output for an error message.
func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}
