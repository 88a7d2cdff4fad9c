package procs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what processes have used so far.
type Usage struct {
	CPU time.Duration // user and system
}

// Linux counts processor time in these ticks, whatever the kernel's own are (USER_HZ, proc(5)).
const tick = time.Second / 100

// Of reads what a process has used, with everything that it started if tree is set. It is known on Linux alone; elsewhere
// ok is false.
func Of(pid int, tree bool) (u Usage, ok bool) {
	own, ok := readStat(pid)
	if !ok {
		return Usage{}, false
	}
	u.CPU = own.cpu
	if !tree {
		return u, true
	}
	u.CPU += own.waited
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return Usage{}, false
	}
	for _, path := range stats {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if s, ok := readStat(child); ok && s.parent == pid {
			u.CPU += s.cpu + s.waited
		}
	}
	return u, true
}

// Busy is the time that all processors together were busy with anything since the system started; for Linux alone.
func Busy() (time.Duration, bool) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, false
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return busyOf(line)
}

// busyOf sums the first line of /proc/stat but for what is idle, waiting, or counted twice (guests).
func busyOf(line string) (time.Duration, bool) {
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, false
	}
	var sum int64
	for i, field := range fields[1:9] {
		if i == 3 || i == 4 {
			continue
		}
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, false
		}
		sum += n
	}
	return time.Duration(sum) * tick, true
}

// Memory is a process's resident memory and the most that it ever was, in bytes; for Linux alone.
func Memory(pid int) (resident, peak int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		number, found := strings.CutSuffix(strings.TrimSpace(value), " kB")
		if !found {
			continue
		}
		switch name {
		case "VmRSS":
			resident, err = strconv.ParseInt(number, 10, 64)
		case "VmHWM":
			peak, err = strconv.ParseInt(number, 10, 64)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if resident == 0 {
		return 0, 0, fmt.Errorf("the process %d holds no memory", pid)
	}
	return resident << 10, peak << 10, nil
}

type stat struct {
	parent      int
	cpu, waited time.Duration // own, and of children that have ended
}

func readStat(pid int) (stat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	return parseStat(text)
}

// parseStat reads /proc/PID/stat, whose second field, a name in parentheses, may hold anything.
func parseStat(text []byte) (stat, bool) {
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const state = 3 // the number of the first field after the name, as proc(5) counts
	if len(fields) <= 17-state {
		return stat{}, false
	}
	number := func(field int) (n int64) {
		n, _ = strconv.ParseInt(fields[field-state], 10, 64)
		return n
	}
	return stat{
		parent: int(number(4)),
		cpu:    time.Duration(number(14)+number(15)) * tick,
		waited: time.Duration(number(16)+number(17)) * tick,
	}, true
}
