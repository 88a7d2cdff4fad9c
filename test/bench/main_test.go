package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealkeep/sealkeep/test/bench/reference"
)

// roleBench makes the test's own binary the whole benchmark.
const roleBench = "SEALKEEP_TEST_BENCH"

func TestMain(m *testing.M) {
	// The benchmark starts its own binary anew, which here is this one.
	if len(os.Args) == 2 && slices.Contains([]string{roleServe, roleRotate, roleLoad}, os.Args[1]) || os.Getenv(roleBench) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// patience bounds what waits for something that never comes. No assertion rests on it.
const patience = 3 * time.Minute

// tiny are the settings of a run that only shows that everything works.
func tiny(t *testing.T, flags ...string) *options {
	t.Helper()
	args := append([]string{
		"-secrets", "64", "-rounds", "2", "-time", "60ms", "-warmup", "20ms", "-starts", "1", "-reads", "200", "-conns", "2,32",
		"-bulk", "100", "-sealed", "80", "-due", "32", "-jobs", "64", "-out", t.TempDir(), "-data", t.TempDir(),
	}, flags...)
	o, err := parseOptions(args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// leftovers lists what is still below a folder.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func runTiny(t *testing.T, o *options) (string, results) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes a PostgreSQL server with flushed commits and a build of the vault")
	}
	// pgserver puts temporary data where TMPDIR says, which measure sets; the test's own folders keep to theirs.
	t.Setenv("TMPDIR", os.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out strings.Builder
	if err := measure(ctx, o, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if left := leftovers(t, o.data); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
	text, err := os.ReadFile(filepath.Join(o.out, map[bool]string{false: "results.json", true: "scale.json"}[o.scale]))
	if err != nil {
		t.Fatal(err)
	}
	var r results
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return out.String(), r
}

func TestARunMeasuresEverythingAndLeavesNothing(t *testing.T) {
	o := tiny(t)
	out, r := runTiny(t, o)
	for _, w := range o.requests() {
		for _, s := range allServers {
			for _, n := range o.connections {
				rates := r.series(w, s, n, rateOf)
				if want := map[bool]int{true: o.rounds}[servesOn(s, w)]; len(rates) != want || slices.Contains(rates, 0) {
					t.Errorf("%s of %s at %d connections: %v", w, s, n, rates)
				}
			}
		}
	}
	if len(r.Starts) != 1 || len(r.Memory) > 0 && r.Memory[9].Reads != 200 {
		t.Errorf("%v, %v", r.Starts, r.Memory)
	}
	for _, n := range rotatorCounts {
		for _, s := range []string{reference.Bare, vaultServer} {
			if rates := r.rotationSeries(s, n, rotationRate); len(rates) != o.rounds {
				t.Errorf("%d rotators of %s: %v", n, s, rates)
			}
		}
	}
	if n := len(r.Queue); n > 0 && r.Queue[n-1].Rotations < int64(o.jobs) {
		t.Errorf("%+v", r.Queue)
	}
	for _, wanted := range []string{"vault / d", "v / d", "vault / e", "p99 of", "batch of 64 / single read", "create: vault / t", "update: vault / t", "start, ms"} {
		if !slices.ContainsFunc(r.Ratios, func(x ratio) bool { return strings.Contains(x.Name, wanted) }) || !strings.Contains(out, wanted) {
			t.Errorf("there is no ratio %q", wanted)
		}
	}
	if svg, err := os.ReadFile(filepath.Join(o.out, "results.svg")); err != nil || !strings.Contains(string(svg), "the vault") {
		t.Error(err)
	}
}

func TestARunWithTokensMeasuresWhatWasChosen(t *testing.T) {
	o := tiny(t, "-servers", "v,vault", "-workloads", "read,verify", "-only", "rates", "-auth", "ip+token", "-conns", "3", "-rounds", "1")
	_, r := runTiny(t, o)
	if len(r.Cells) != 3 || r.Auth != "ip+token" || len(r.Starts)+len(r.Memory) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestARunOfRotationsAloneStartsNoServers(t *testing.T) {
	o := tiny(t, "-workloads", "rotate", "-only", "rates", "-rounds", "1", "-due", "300", "-time", "2s")
	out, r := runTiny(t, o)
	if len(r.Cells)+len(r.Starts)+len(r.Memory)+len(r.Queue) != 0 || len(r.Rotations) != 4 {
		t.Errorf("%+v", r)
	}
	for _, c := range r.Rotations {
		if c.Rate == 0 {
			t.Errorf("%+v", c)
		}
	}
	for _, wanted := range []string{"one rotator / t", "three rotators / three of t", "three rotators / one", "rotations per second, 8 at once"} {
		if !strings.Contains(out, wanted) {
			t.Errorf("there is no %q", wanted)
		}
	}
}

func TestARunOnLargeTablesCountsThem(t *testing.T) {
	o := tiny(t, "-scale", "-conns", "2")
	out, r := runTiny(t, o)
	if r.Scale == nil || r.Scale.Secrets != 64+80+100 || r.Scale.Versions != 3*64+80+3*100 || r.Scale.Lookups == 0 {
		t.Fatalf("%+v", r.Scale)
	}
	if len(r.Cells) != 3*2 || !strings.Contains(out, "large table / small table") {
		t.Errorf("%s", out)
	}
}

func TestAnInterruptedRunEndsItsProcessesAndRemovesItsFolders(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a PostgreSQL server with flushed commits and a build of the vault")
	}
	data := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-only", "rates", "-workloads", "read", "-time", "1h", "-secrets", "64", "-data", data, "-out", data)
	cmd.Env = append(os.Environ(), roleBench+"=1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), "measurements of") { // the first of them is under way then, or soon
		t.Log(lines.Text())
	}
	children := childrenOf(t, cmd.Process.Pid)
	if len(children) == 0 || len(leftovers(t, data)) == 0 {
		t.Error("control: no processes or no folders were seen")
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, stdout)
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Errorf("it ended with %v", err)
	}
	for _, pid := range children {
		if syscall.Kill(pid, 0) == nil && !zombie(pid) {
			t.Errorf("process %d is still there", pid)
		}
	}
	if left := leftovers(t, data); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
}

// childrenOf lists the processes that a process started, its grandchildren too.
func childrenOf(t *testing.T, pid int) (all []int) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(paths) == 0 {
		t.Skip("processes are listed from /proc")
	}
	for _, path := range paths {
		child, parent, _ := processState(path)
		if parent == pid {
			all = append(append(all, child), childrenOf(t, child)...)
		}
	}
	return all
}

func zombie(pid int) bool {
	_, _, state := processState(fmt.Sprintf("/proc/%d/stat", pid))
	return state == "Z"
}

func processState(path string) (pid, parent int, state string) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, ""
	}
	head, rest, _ := strings.Cut(string(text), " (")
	_, _ = fmt.Sscan(head, &pid)
	_, _ = fmt.Sscan(rest[strings.LastIndexByte(rest, ')')+1:], &state, &parent)
	return pid, parent, state
}
