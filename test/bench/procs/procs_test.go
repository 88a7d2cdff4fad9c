package procs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds what should take no time. No assertion rests on it.
const patience = time.Minute

// shell runs a script; $1 and so on are its arguments.
func shell(t *testing.T, script string, args ...string) Config {
	t.Helper()
	return Config{
		Name: "the script", Path: "/bin/sh", Args: append([]string{"-c", script, "sh"}, args...), Env: []string{"PATH=" + os.Getenv("PATH")},
		Log: filepath.Join(t.TempDir(), "log"),
	}
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestAProcessStopsInOrder(t *testing.T) {
	t.Parallel()
	marker := filepath.Join(t.TempDir(), "marker")
	c := shell(t, `trap 'echo stopped >"$1"; exit 0' TERM; echo '{"PID":'$$'}'; while :; do sleep 0.01; done`, marker)
	var report struct{ PID int }
	p, err := Serve(t.Context(), c, &report)
	if err != nil {
		t.Fatal(err)
	}
	if report.PID != p.PID() || p.Err() != nil {
		t.Errorf("%d, %d, %v", report.PID, p.PID(), p.Err())
	}
	if err := p.Stop(patience); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(marker); err != nil || !gone(p.PID()) {
		t.Errorf("%v, gone: %t", err, gone(p.PID()))
	}
}

func TestAProcessThatDoesNotStopIsKilled(t *testing.T) {
	t.Parallel()
	var report struct{}
	p, err := Serve(t.Context(), shell(t, `trap '' TERM; echo '{}'; while :; do sleep 0.01; done`), &report)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(50 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "didn't stop") {
		t.Error(err)
	}
	if !gone(p.PID()) {
		t.Error("it is still there")
	}
}

func TestAProcessThatEndsOnItsOwnIsAnErrorWithItsLog(t *testing.T) {
	t.Parallel()
	p, err := Start(shell(t, `read -r line; echo "lost $line" >&2; exit 3`))
	if err != nil {
		t.Fatal(err)
	}
	if p.Err() != nil {
		t.Error("it ended before it was told anything")
	}
	_ = p.stdin.Close()
	<-p.Done()
	for _, err := range []error{p.Err(), p.Stop(patience)} {
		if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "lost") {
			t.Error(err)
		}
	}
}

func TestAProcessThatNeverServesIsStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	pidFile := filepath.Join(t.TempDir(), "pid")
	var report struct{}
	_, err := Serve(ctx, shell(t, `echo $$ >"$1"; while :; do sleep 0.01; done`, pidFile), &report)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if text, err := os.ReadFile(pidFile); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || !gone(pid) {
			t.Errorf("it is still there: %d, %v", pid, err)
		}
	}
	if _, err := Serve(t.Context(), shell(t, `echo no JSON; sleep 100`), &report); err == nil {
		t.Error("a report that is none was taken")
	}
}

func TestACallGivesTheAnswerOrTheProblem(t *testing.T) {
	t.Parallel()
	var answer struct{ Question string }
	usage, err := Call(t.Context(), shell(t, `i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; cat`), map[string]string{"Question": "why"}, &answer)
	if err != nil || answer.Question != "why" || usage.CPU <= 0 {
		t.Errorf("%+v, %+v, %v", answer, usage, err)
	}
	if _, err := Call(t.Context(), shell(t, `echo broken >&2; exit 1`), nil, &answer); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Error(err)
	}
	if _, err := Call(t.Context(), shell(t, `echo no JSON`), nil, &answer); err == nil || !strings.Contains(err.Error(), "no JSON") {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Call(ctx, shell(t, `exec sleep 100`), nil, &answer); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestFieldsOfProcStat(t *testing.T) {
	t.Parallel()
	// Fields 14 to 17 are 100, 20, 3 and 4 ticks; the name is a trap.
	text := "42 (a) R 1 (b) S 7 42 42 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 12345"
	s, ok := parseStat([]byte(text))
	if want := (stat{parent: 7, cpu: 1200 * time.Millisecond, waited: 70 * time.Millisecond}); !ok || s != want {
		t.Errorf("%+v, %t", s, ok)
	}
	if _, ok := parseStat([]byte("42 (a) R 1 2")); ok {
		t.Error("a short one was taken")
	}
	busy, ok := busyOf("cpu  100 10 20 5000 600 1 2 3 40 5")
	if !ok || busy != 1360*time.Millisecond {
		t.Errorf("%s, %t", busy, ok)
	}
	if _, ok := busyOf("cpu0 1 2 3 4 5 6 7 8"); ok {
		t.Error("another line was taken")
	}
}

func TestOwnUsage(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("it is read from /proc")
	}
	for x, until := 0, time.Now().Add(50*time.Millisecond); time.Now().Before(until); x++ {
		_ = x
	}
	own, ok := Of(os.Getpid(), false)
	tree, ok2 := Of(os.Getpid(), true)
	busy, ok3 := Busy()
	if !ok || !ok2 || !ok3 || own.CPU <= 0 || tree.CPU < own.CPU || busy <= 0 {
		t.Errorf("%v %v %v", own, tree, busy)
	}
	resident, peak, err := Memory(os.Getpid())
	if err != nil || resident < 1<<20 || peak < resident {
		t.Errorf("%d, %d, %v", resident, peak, err)
	}
	if _, ok := Of(1<<30, false); ok {
		t.Error("a process that can't be was read")
	}
}
