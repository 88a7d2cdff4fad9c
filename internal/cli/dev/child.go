package dev

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Report is what a child writes to its standard output, as one line of JSON, when it is bound to its addresses. It then
// waits for a line on its standard input before it begins its work.
type Report struct {
	API       string `json:"api,omitempty"`       // host:port, of an API process
	Telemetry string `json:"telemetry,omitempty"` // host:port
	Error     string `json:"error,omitempty"`     // why it could not, in place of the others
}

// maxLog is where a child's log is set aside for a new one at the next start, in bytes.
const maxLog = 8 << 20

// child is one process of ours. It holds its parent's pipe as standard input, whose end means that the parent has died.
type child struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.Writer
	log    string // path
	begun  int64  // where its log stood when it started
	at     Report // what it reported; valid once bound has returned
	report chan Report
	done   chan struct{} // closed when it has ended
}

// startChild runs this binary with the given arguments and environment. Its standard error is appended to a log.
func startChild(name string, args []string, env map[string]string, logPath string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding our own binary: %w", err)
	}
	log, begun, err := openLog(logPath)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	c := &child{name: name, log: logPath, begun: begun, report: make(chan Report, 1), done: make(chan struct{})}
	c.cmd = exec.Command(self, args...) //nolint:gosec,noctx // our own binary; stop ends it
	c.cmd.Env, c.cmd.Stderr, c.cmd.SysProcAttr = list(env), log, attributes()
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() {
		// The kernel watches this thread on the child's behalf: it must live as long as the child. It is never unlocked,
		// so it ends with this goroutine.
		runtime.LockOSThread()
		if err := c.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		c.readReport(stdout)
		_ = c.cmd.Wait() // how it ended is in its log and its state
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting the %s process: %w", name, err)
	}
	return c, nil
}

// readReport takes the child's report and then reads until the child closes its end.
func (c *child) readReport(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var r Report
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			select {
			case c.report <- r:
			default: // it reports once
			}
		}
	}
}

// bound waits until the child has its addresses, and keeps what it reported.
func (c *child) bound(ctx context.Context) error {
	select {
	case c.at = <-c.report:
		if c.at.Error != "" {
			return fmt.Errorf("the %s process can't start: %s", c.name, c.at.Error)
		}
		return nil
	case <-c.done:
		return c.ended()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// goAhead lets the child begin its work.
func (c *child) goAhead() error {
	_, err := io.WriteString(c.stdin, "go\n")
	return err
}

// ended is the error of a child that has ended without being told to.
func (c *child) ended() error {
	text := strings.TrimSpace(c.lastLines(4))
	if text != "" {
		text = ":\n" + text
	}
	return fmt.Errorf("the %s process ended (%s), see %s%s", c.name, c.cmd.ProcessState, c.log, text)
}

// lastLines reads the end of what the child has logged since it started.
func (c *child) lastLines(n int) string {
	file, err := os.Open(c.log)
	if err != nil {
		return ""
	}
	defer file.Close()
	const window = 16 << 10
	from := c.begun
	if info, err := file.Stat(); err == nil {
		from = max(from, info.Size()-window)
	}
	text, _ := io.ReadAll(io.NewSectionReader(file, from, window))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// stop ends the child in order, and by force when the limit is over. It returns when the child is gone.
func (c *child) stop(limit time.Duration) {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.done:
		return
	case <-timer.C:
	}
	_ = c.cmd.Process.Kill()
	<-c.done
}

// openLog opens a log for appending, and tells where it stands. One that has grown large is set aside first.
func openLog(path string) (*os.File, int64, error) {
	if info, err := os.Lstat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, 0, err
		}
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, 0, err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, size, nil
}
