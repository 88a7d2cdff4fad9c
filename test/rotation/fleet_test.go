package rotation

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/test/bench/procs"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// fleet is rotators as processes of their own, each with a place that is filled again when its process ends.
type fleet struct {
	t       *testing.T
	binary  string
	environ []string
	dir     string

	mu     sync.Mutex
	places []*procs.Process
	starts int
	own    []string // ends that nobody made
	faults struct{ killed, killedStopped, stopped, stoppedLong int }
	paused map[*procs.Process]bool
	resume sync.WaitGroup // pauses that are to end
}

// lease is that of the fleet's rotators, the shortest that there is.
const lease = 3 * time.Second

// build builds a program of cmd as a release has it, but for the race detector.
func build(t *testing.T, program string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), program)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "github.com/sealkeep/sealkeep/cmd/"+program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", program, err, out)
	}
	return binary
}

func newFleet(t *testing.T, v *vaulttest.Vault, size int) *fleet {
	t.Helper()
	f := &fleet{t: t, binary: build(t, "rotator"), dir: t.TempDir(), places: make([]*procs.Process, size), paused: map[*procs.Process]bool{}}
	environ := v.OfflineEnviron()
	maps.Copy(environ, map[string]string{
		"VAULT_DATABASE_URL": v.DB.URL("sealkeep_rotator"), "VAULT_TELEMETRY_LISTEN": "127.0.0.1:0", "VAULT_PG_MAX_CONNS": "10",
		"VAULT_ROTATION_LEASE_SECS": fmt.Sprint(int(lease.Seconds())), "VAULT_ROTATION_POLL_SECS": "1", "VAULT_ROTATION_WORKERS": "4",
	})
	for name, value := range environ {
		f.environ = append(f.environ, name+"="+value)
	}
	t.Cleanup(f.discard)
	return f
}

// fill starts a rotator in every place that has none. It is called by one goroutine at a time.
func (f *fleet) fill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range f.places {
		if p != nil {
			err := p.Err()
			if err == nil {
				continue
			}
			f.own = append(f.own, err.Error()) // whoever kills one fills its place
		}
		f.start(i)
	}
}

// start starts a rotator in a place. f.mu is held.
func (f *fleet) start(place int) {
	f.starts++
	name := fmt.Sprintf("rotator-%d-%d", place, f.starts)
	p, err := procs.Start(procs.Config{Name: name, Path: f.binary, Env: f.environ, Log: filepath.Join(f.dir, name)})
	if err != nil {
		f.t.Errorf("a rotator can't be started: %v", err)
		f.places[place] = nil
		return
	}
	f.places[place] = p
}

// kill ends a rotator as a crash does, and starts another one in its place.
func (f *fleet) kill(r *rand.Rand) {
	f.mu.Lock()
	defer f.mu.Unlock()
	place := r.IntN(len(f.places))
	p := f.places[place]
	if p == nil || p.Err() != nil || syscall.Kill(p.PID(), syscall.SIGKILL) != nil {
		return
	}
	f.faults.killed++
	if f.paused[p] {
		f.faults.killedStopped++
	}
	<-p.Done()
	f.start(place)
}

// stop has a rotator stand still for a while, its connections, transactions and claims as they are.
func (f *fleet) stop(r *rand.Rand, pause time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.places[r.IntN(len(f.places))]
	if p == nil || p.Err() != nil || f.paused[p] || syscall.Kill(p.PID(), syscall.SIGSTOP) != nil {
		return
	}
	f.paused[p] = true
	f.faults.stopped++
	if pause > lease {
		f.faults.stoppedLong++
	}
	f.resume.Go(func() {
		select {
		case <-p.Done():
		case <-time.After(pause):
		case <-f.t.Context().Done():
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if p.Err() == nil {
			_ = syscall.Kill(p.PID(), syscall.SIGCONT)
		}
		delete(f.paused, p)
	})
}

// plague kills or stops a rotator every second, for that many seconds.
func (f *fleet) plague(r *rand.Rand, seconds int) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := range seconds {
		select {
		case <-tick.C:
		case <-f.t.Context().Done():
			return
		}
		f.fill()
		switch n % 5 {
		case 1:
			f.stop(r, time.Duration(r.Int64N(int64(lease))))
		case 3:
			f.stop(r, lease+time.Duration(r.Int64N(int64(lease))))
		default:
			f.kill(r)
		}
	}
	f.resume.Wait()
	f.fill()
}

// end stops all in order.
func (f *fleet) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range f.places {
		if p == nil {
			continue
		}
		if err := p.Stop(time.Minute); err != nil {
			f.t.Error(err)
		}
		f.places[i] = nil
	}
}

// discard ends what a failed test left, and tells what was logged.
func (f *fleet) discard() {
	f.resume.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, p := range f.places {
		if p != nil {
			_ = syscall.Kill(p.PID(), syscall.SIGKILL)
			<-p.Done()
			errs = append(errs, p.Err())
		}
	}
	if f.t.Failed() && len(errs) > 0 {
		f.t.Log(errors.Join(errs...))
	}
}

// logged is what all rotators have logged.
func (f *fleet) logged() string {
	f.t.Helper()
	files, err := filepath.Glob(filepath.Join(f.dir, "rotator-*"))
	if err != nil {
		f.t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
