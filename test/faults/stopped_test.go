package faults

import (
	"context"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgserver"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// hangs is far longer than any limit of the vault's own: a request that takes longer hangs.
const hangs = 20 * time.Second

// TestI4_DatabaseGoneUnderLoad takes PostgreSQL away in every way while clients go on asking: they are refused, and served
// again once it is back, without anybody's help.
func TestI4_DatabaseGoneUnderLoad(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a server of its own and stops it")
	}
	server := pgtest.NewServer(t, map[string]string{"fsync": "on"})
	v := vaulttest.New(t, vaulttest.Config{Database: server.Database, Options: hasty})
	l := startLoad(t, v, 12)
	restart := func() error { return server.Postgres.Restart(context.Background()) }
	for _, gone := range []struct {
		how        string
		take, give func() error
	}{
		{"stopped in order", func() error { return server.Postgres.Stop(context.Background()) }, restart},
		{"crashed", server.Postgres.Kill, restart},
		{"frozen", func() error { return signalServer(server.Postgres, syscall.SIGSTOP) }, func() error { return signalServer(server.Postgres, syscall.SIGCONT) }},
		{"restarted at once", restart, func() error { return nil }},
	} {
		away := gone.how != "restarted at once"
		if err := gone.take(); err != nil {
			t.Fatalf("%s: %v", gone.how, err)
		}
		if away {
			l.refusedSince(t, gone.how, time.Now())
		}
		if err := gone.give(); err != nil {
			t.Fatalf("%s: giving it back: %v", gone.how, err)
		}
		back := time.Now()
		vaulttest.Eventually(t, "service resumes after the database was "+gone.how, l.serves)
		t.Logf("%s: served again %v after it was back", gone.how, time.Since(back).Round(time.Millisecond))
	}
	l.settle()
	l.check()
	v.VerifyClean(t)
}

// refusedSince waits until every client has been refused twice, and fails if any was answered otherwise.
func (l *load) refusedSince(t *testing.T, how string, gone time.Time) {
	t.Helper()
	after := func(a answer) bool { return a.began.After(gone) }
	vaulttest.Eventually(t, "requests are refused while the database is "+how, func() bool {
		n := 0
		for _, a := range l.taken() {
			if after(a) {
				n++
			}
		}
		return n >= 24
	})
	for _, a := range l.taken() {
		if !after(a) {
			continue
		}
		if a.status != http.StatusServiceUnavailable {
			t.Errorf("I4: the database was %s, and %s answered %d", how, a.op, a.status)
		}
		if a.took > hangs {
			t.Errorf("%s hung for %v while the database was %s", a.op, a.took, how)
		}
	}
	l.latencies(t, how, after)
}

// signalServer signals the server with all its sessions.
func signalServer(s *pgserver.Server, signal syscall.Signal) error {
	postmaster := s.PID()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	pids := []int{postmaster}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		// pid (name) state parent …, and the name may hold anything
		_, rest, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(postmaster) {
			pids = append(pids, pid)
		}
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); err != nil && pid == postmaster {
			return err
		}
	}
	return nil
}
