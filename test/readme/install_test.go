package readme

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgserver"
)

func TestInstallationOnAnotherPostgreSQLIsAsTheReadmeSays(t *testing.T) {
	t.Parallel()
	installation := steps(t, "On your own PostgreSQL")
	if len(installation) != 5 {
		t.Fatalf("the installation has %d steps", len(installation))
	}
	w := newWorkplace(t)
	server, err := pgserver.Start(t.Context(), w.binaries, pgserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Discard(); err != nil {
			t.Error(err)
		}
	})
	port := strconv.Itoa(server.Port())
	w.env = append(w.env, "PGHOST="+server.SocketDir(), "PGPORT="+port, "PGUSER="+server.Superuser(), "VAULT_PG_PORT="+port)

	const hosts = "db1.example.com,db2.example.com"
	serve, rotate := installation[3].script, installation[4].script
	if !strings.Contains(installation[1].script, hosts) || !strings.HasSuffix(serve, " api\n") || !strings.HasSuffix(rotate, " rotator\n") {
		t.Fatal("the installation isn't what this test knows how to follow")
	}
	w.run(t, installation[:3], hosts, server.SocketDir())
	w.env = append(
		w.env, "VAULT_PG_HOSTS="+server.SocketDir(), "VAULT_PG_DBNAME=vault", "VAULT_KMS_MODE=local",
		"VAULT_LOCAL_MASTER_KEY_FILE="+w.dir+"/master-key", "VAULT_API_LISTEN=127.0.0.1:0", "VAULT_TELEMETRY_LISTEN=127.0.0.1:0",
	)
	w.serves(t, serve, "api")
	w.serves(t, rotate, "telemetry")
}

// serves runs a program, and waits until it says at one of its listeners that it is ready.
func (w workplace) serves(t *testing.T, script, listener string) {
	t.Helper()
	program := exec.Command("sh", "-c", "exec env "+script)
	program.Dir, program.Env = w.dir, w.env
	log, err := program.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	address, ended := make(chan string, 1), make(chan struct{})
	var text strings.Builder
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			text.WriteString(lines.Text() + "\n")
			var line struct{ Msg, Listener, Address string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" && line.Listener == listener {
				address <- line.Address
			}
		}
		_ = program.Wait()
	}()
	select {
	case at := <-address:
		untilReady(t, at)
	case <-ended:
	}
	_ = program.Process.Signal(syscall.SIGTERM)
	<-ended
	if !program.ProcessState.Success() {
		t.Errorf("%v\n%s", program.ProcessState, text.String())
	}
}

func untilReady(t *testing.T, address string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext}}
	for {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
