// Package procs runs the benchmark's processes and reads what they use.
//
// Invariants:
//   - No process outlives the benchmark for long: it is stopped by its own id, and on Linux the kernel ends it when the
//     benchmark dies in any other way; those that re-execute the benchmark's binary also end with their standard input.
//   - A process has a process group of its own: a Ctrl-C at the terminal reaches the benchmark alone, which then stops the
//     others in order.
//   - That a process ended without being told to is an error, with the end of its log.
package procs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Process is a process that serves until it is stopped.
type Process struct {
	Name string

	cmd   *exec.Cmd
	stdin io.Closer
	log   string        // path
	done  chan struct{} // closed when it has ended
	began time.Time
}

// Config says what to start.
type Config struct {
	Name    string
	Path    string
	Args    []string
	Env     []string // all of it; nothing is inherited
	Log     string   // path of the file that gets its standard error
	Input   []byte   // of its standard input, which then stays open as long as this process lives
	Capture io.Writer
}

// Start starts a process.
func Start(c Config) (*Process, error) {
	log, err := os.OpenFile(c.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	p := &Process{Name: c.Name, log: c.Log, done: make(chan struct{})}
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = c.Env, c.Capture, log, attributes()
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	started := make(chan error, 1)
	go func() {
		// On Linux the kernel ends the child when the thread that started it ends. It is never unlocked, so it lives as
		// long as this goroutine.
		runtime.LockOSThread()
		p.began = time.Now()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended is in its state
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	if _, err := stdin.Write(c.Input); err != nil {
		return nil, errors.Join(fmt.Errorf("writing to %s: %w", c.Name, err), p.Stop(time.Second))
	}
	return p, nil
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Began is when the process was about to be executed.
func (p *Process) Began() time.Time { return p.began }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is nil while the process runs, and tells why it is an error when it does not.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.ended()
	default:
		return nil
	}
}

// ended waits for the end of a process that should not have ended.
func (p *Process) ended() error {
	<-p.done
	return fmt.Errorf("%s ended (%s); the end of its log:\n%s", p.Name, p.cmd.ProcessState, tail(p.log))
}

// Stop ends the process in order, and by force when the limit is over. A process that had ended on its own is an error.
func (p *Process) Stop(limit time.Duration) error {
	select {
	case <-p.done:
		return p.ended()
	default:
	}
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return fmt.Errorf("%s didn't stop within %s", p.Name, limit)
}

// tail gives the end of a log.
func tail(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	const window = 4 << 10
	from := int64(0)
	if info, err := file.Stat(); err == nil {
		from = max(0, info.Size()-window)
	}
	text, _ := io.ReadAll(io.NewSectionReader(file, from, window))
	return strings.TrimSpace(string(text))
}

// Serve starts a process that writes one line of JSON to its standard output when it serves, and decodes that into report.
func Serve(ctx context.Context, c Config, report any) (*Process, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	c.Capture = write
	p, err := Start(c)
	_ = write.Close()
	if err != nil {
		return nil, err
	}
	reported := make(chan error, 1)
	go func() {
		line, err := bufio.NewReader(read).ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, report)
		}
		reported <- err
	}()
	select {
	case err = <-reported:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		stopped := p.Stop(time.Second)
		_ = read.Close()
		return nil, errors.Join(fmt.Errorf("%s doesn't say that it serves: %w", c.Name, err), stopped)
	}
	return p, nil
}

// Call runs a process to its end, with input as JSON on its standard input, and decodes the JSON that it writes into output.
func Call(ctx context.Context, c Config, input, output any) (Usage, error) {
	text, err := json.Marshal(input)
	if err != nil {
		return Usage{}, err
	}
	var answer, problem strings.Builder
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Env, strings.NewReader(string(text)), &answer, &problem
	cmd.SysProcAttr = attributes()
	cmd.WaitDelay = time.Second
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // as in Start
		done <- cmd.Run()
	}()
	if err := <-done; err != nil {
		if ctx.Err() != nil {
			return Usage{}, ctx.Err()
		}
		return Usage{}, fmt.Errorf("%s: %w: %s", c.Name, err, strings.TrimSpace(problem.String()))
	}
	if err := json.Unmarshal([]byte(answer.String()), output); err != nil {
		return Usage{}, fmt.Errorf("%s answered %.200q: %w", c.Name, answer.String(), err)
	}
	return Usage{CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, nil
}
