package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// watchdogScript reads which process to end from a pipe whose other end only our process holds, so that the
// end of the pipe means that our process has ended, however it did. "end" is the orderly way out. Then the
// process gets the signal that it was named with, later harder ones, and the folders given as arguments go.
// The removal is tried again while a last backend still writes.
const watchdogScript = `
trap '' HUP INT QUIT TERM
pid='' first=''
while read -r word number signal; do
	case $word in
	end) exit 0 ;;
	pid) pid=$number first=$signal ;;
	none) pid='' ;;
	esac
done
# A process that has ended keeps its number until process 1 has noticed, which may take its time.
zombie() { read -r _ _ state _ <"/proc/$pid/stat" && [ "$state" = Z ]; }
running() { [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && ! zombie 2>/dev/null; }
nap() { sleep 0.1 2>/dev/null || sleep 1; }
finish() {
	n=0
	kill -s "$1" "$pid" 2>/dev/null
	while [ "$n" -lt "$2" ] && running; do
		nap
		n=$((n + 1))
	done
}
running && finish "$first" 50
running && finish QUIT 60
running && finish KILL 20
for dir in "$@"; do
	n=0
	while [ -e "$dir" ] && [ "$n" -lt 50 ]; do
		rm -rf -- "$dir" 2>/dev/null
		[ -e "$dir" ] && nap
		n=$((n + 1))
	done
done
`

// watchdog is a shell in a session of its own that ends PostgreSQL when this process dies.
type watchdog struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// startWatchdog starts a watchdog that also removes the given folders when this process dies.
func startWatchdog(remove ...string) (*watchdog, error) {
	// Go opens both ends close-on-exec: no other child of ours keeps the pipe open.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	args := append([]string{"-c", watchdogScript, "sealkeep-postgres-watchdog"}, remove...)
	//nolint:gosec // the folders are arguments of the script, not a part of it
	cmd := exec.CommandContext(context.Background(), "/bin/sh", args...)
	cmd.Stdin, cmd.Dir, cmd.Env = read, "/", environment("")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the watchdog: %w", errors.Join(err, write.Close()))
	}
	return &watchdog{cmd: cmd, pipe: write}, nil
}

// watch names the process to end and the signal to begin with, SIGINT or SIGQUIT. A watchdog that somebody
// killed can't be told, and the server works without it, so there is no error.
func (w *watchdog) watch(pid int, first syscall.Signal) {
	name := "INT"
	if first == syscall.SIGQUIT {
		name = "QUIT"
	}
	_, _ = io.WriteString(w.pipe, "pid "+strconv.Itoa(pid)+" "+name+"\n")
}

// rest says that there is no process to end.
func (w *watchdog) rest() {
	_, _ = io.WriteString(w.pipe, "none\n")
}

// end lets the watchdog go and waits for it. It then removes nothing.
func (w *watchdog) end() {
	_, _ = io.WriteString(w.pipe, "end\n")
	_ = w.pipe.Close()
	_ = w.cmd.Wait()
}
