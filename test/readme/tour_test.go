package readme

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestTourIsAsTheReadmeSays(t *testing.T) {
	t.Parallel()
	tour := steps(t, "A five-minute tour")
	if len(tour) < 10 {
		t.Fatalf("the tour has only %d steps", len(tour))
	}
	const start = "VAULT_ALLOWED_IPS=127.0.0.1 make dev\n"
	if tour[0].script != start {
		t.Fatalf("the tour begins with %q", tour[0].script)
	}
	w := newWorkplace(t)
	w.compare(t, tour[0], w.dev(t, "VAULT_ALLOWED_IPS=127.0.0.1"))
	w.run(t, tour[1:])
}

// dev starts what `make dev` starts, on a port that is free, and returns what it prints until it is ready. It ends with
// the test.
func (w workplace) dev(t *testing.T, env ...string) string {
	t.Helper()
	t.Cleanup(func() { removeData(w.dir) })
	dev := exec.Command("bin/sealkeep", "dev", "--api-listen", "127.0.0.1:0")
	dev.Dir, dev.Env = w.dir, append(w.env, env...)
	out, err := dev.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	dev.Stderr = dev.Stdout
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		_ = dev.Process.Signal(syscall.SIGINT)
		<-ended
	})
	var printed strings.Builder
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		for said := false; lines.Scan(); {
			if said {
				continue
			}
			printed.WriteString(lines.Text() + "\n")
			if said = strings.HasPrefix(lines.Text(), "Ctrl-C "); said {
				close(ready)
			}
		}
		_ = dev.Wait()
	}()
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("dev ended (%v):\n%s", dev.ProcessState, printed.String())
	}
	return printed.String()
}

// removeData removes the data that `dev` keeps outside of its folder when it runs as root.
func removeData(dir string) {
	data, err := filepath.EvalSymlinks(filepath.Join(dir, ".sealkeep", "data"))
	if err == nil && !strings.HasPrefix(data, dir) {
		_ = os.RemoveAll(filepath.Dir(data))
		_ = os.Remove(filepath.Dir(filepath.Dir(data))) // if nobody else's is in it
	}
}
