package cli

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgserver"
)

// stopLimit is what `dev` promises: an interrupt ends everything within 8 s.
const stopLimit = 8 * time.Second

// devProcess is a running `dev`.
type devProcess struct {
	t       *testing.T
	cmd     *exec.Cmd
	dir     string
	out     strings.Builder // all that it printed until it was ready
	session []string
	done    chan struct{}
	rest    strings.Builder // what it printed afterwards; to be read when done is closed
}

// devEnvironment is that of a user whose PostgreSQL variables lead elsewhere.
func devEnvironment(extra ...string) []string {
	env := []string{
		asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir(),
		"PGHOST=/nowhere", "PGSERVICE=there-is-no-such-service", "PGPASSWORD=x", "VAULT_DATABASE_URL=postgres://elsewhere/x",
		"VAULT_PG_HOSTS=elsewhere", "VAULT_TOKEN=hvs.of-another-vault", "VAULT_ADDR=http://192.0.2.1",
	}
	if bin := os.Getenv(pgserver.BinariesVariable); bin != "" {
		env = append(env, pgserver.BinariesVariable+"="+bin)
	}
	return append(env, extra...)
}

// devFolder is a folder for `dev`, which as root has its data elsewhere.
func devFolder(t *testing.T) string {
	t.Helper()
	if _, err := pgserver.Find(os.Getenv, ""); err != nil {
		t.Skip(err)
	}
	dir := filepath.Join(t.TempDir(), "dev")
	t.Cleanup(func() {
		if data, err := filepath.EvalSymlinks(filepath.Join(dir, "data")); err == nil && !strings.HasPrefix(data, dir) {
			_ = os.RemoveAll(filepath.Dir(data))
			_ = os.Remove(filepath.Dir(filepath.Dir(data))) // if nobody else's is in it
		}
	})
	return dir
}

func devCommand(dir string, env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append([]string{"dev", "--dir", dir, "--api-listen", "127.0.0.1:0"}, args...)...)
	cmd.Env = env
	return cmd
}

// startDev starts `dev` and waits until it says that it is ready.
func startDev(t *testing.T, dir string, env ...string) *devProcess {
	t.Helper()
	p := &devProcess{t: t, cmd: devCommand(dir, devEnvironment(env...)), dir: dir, done: make(chan struct{})}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = p.cmd.Stdout
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGINT)
		<-p.done
	})
	ready := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			p.out.WriteString(lines.Text() + "\n")
			if strings.HasPrefix(lines.Text(), "  ") {
				p.session = append(p.session, strings.TrimSpace(lines.Text()))
			}
			if strings.HasPrefix(lines.Text(), "Ctrl-C") {
				close(ready)
				break
			}
		}
		for lines.Scan() {
			p.rest.WriteString(lines.Text() + "\n")
		}
		_ = p.cmd.Wait()
		close(p.done)
	}()
	select {
	case <-ready:
	case <-p.done:
		t.Fatalf("dev ended (%s):\n%s", p.cmd.ProcessState, p.out.String())
	}
	return p
}

// sh runs a script as a user does who sourced DIR/env.
func (p *devProcess) sh(script string) (string, error) {
	cmd := exec.Command("sh", "-euc", ". \"$DIR/env\"\n"+script)
	cmd.Env = devEnvironment("DIR="+p.dir, "SEALKEEP="+os.Args[0])
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (p *devProcess) must(script string, want ...string) string {
	p.t.Helper()
	out, err := p.sh(script)
	if err != nil {
		p.t.Errorf("%s: %v\n%s", script, err, out)
	}
	for _, text := range want {
		if !strings.Contains(out, text) {
			p.t.Errorf("%s: %q is not in:\n%s", script, text, out)
		}
	}
	return out
}

// end sends a signal and waits for the end.
func (p *devProcess) end(signal os.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(stopLimit):
		p.t.Fatalf("still there %s after the signal", stopLimit)
	}
	return p.cmd.ProcessState.ExitCode()
}

// postmaster is the PostgreSQL server's process id.
func (p *devProcess) postmaster() int {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "data", "postmaster.pid"))
	if err != nil {
		p.t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		p.t.Fatal(err)
	}
	return pid
}

// gone waits until nothing of the vault is left: neither PostgreSQL nor the API nor the rotator.
func (p *devProcess) gone(postmaster int, address string) {
	p.t.Helper()
	rotator := p.rotatorMetrics()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, err := get(p.t.Context(), address+"/healthz")
		_, rotatorErr := get(p.t.Context(), rotator)
		running := syscall.Kill(postmaster, 0) == nil
		if err != nil && rotatorErr != nil && !running {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("PostgreSQL runs: %t; the API answers: %t; the rotator answers: %t", running, err == nil, rotatorErr == nil)
		}
	}
}

// rotatorMetrics is the address of the rotator's metrics, as it was printed.
func (p *devProcess) rotatorMetrics() string {
	p.t.Helper()
	match := regexp.MustCompile(`(http://\S+) \(rotator\)`).FindStringSubmatch(p.out.String())
	if match == nil {
		p.t.Fatalf("it doesn't say where the rotator's metrics are:\n%s", p.out.String())
	}
	return match[1]
}

func get(ctx context.Context, address string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return strconv.Itoa(response.StatusCode) + " " + string(body), err
}

func (p *devProcess) address() string {
	return strings.TrimSpace(p.must(`printf %s "$VAULT_ADDR"`))
}

func TestDev_FromTheFirstStartToARecovery(t *testing.T) {
	t.Parallel()
	dir := devFolder(t)
	p := startDev(t, dir)
	for _, text := range []string{
		"not for production", "Ignored", "PGHOST", "PGSERVICE", "VAULT_DATABASE_URL", "VAULT_PG_HOSTS", "Sealkeep is ready",
	} {
		if !strings.Contains(p.out.String(), text) {
			t.Errorf("%q is not in:\n%s", text, p.out.String())
		}
	}
	for _, name := range []string{"admin-token", "env", "master-key", "api.log", "rotator.log", "postgres.log"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	p.checkSession()
	p.checkEnvironment()

	out, err := devCommand(dir, devEnvironment()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in use by process "+strconv.Itoa(p.cmd.Process.Pid)) {
		t.Errorf("a second one on the folder: %v\n%s", err, out)
	}

	p.checkRotator()
	p.must(`printf kept | "$SEALKEEP" secret create app/kept`)
	postmaster, address := p.postmaster(), p.address()
	if status := p.end(os.Interrupt); status != 0 {
		t.Errorf("status %d after an interrupt:\n%s", status, p.rest.String())
	}
	p.gone(postmaster, address)
	for _, name := range []string{"api.log", "rotator.log"} {
		if log, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(log), "stopping: what is in flight") {
			t.Errorf("%s doesn't end in order: %v\n%s", name, err, log)
		}
	}

	p = startDev(t, dir)
	p.must(`"$SEALKEEP" secret get app/kept --raw`, "kept")
	postmaster, address = p.postmaster(), p.address()
	p.end(os.Kill)
	p.gone(postmaster, address)

	if err := os.Remove(filepath.Join(dir, "admin-token")); err != nil {
		t.Fatal(err)
	}
	p = startDev(t, dir)
	p.must(`"$SEALKEEP" secret get app/kept --raw`, "kept")
	p.must(`"$SEALKEEP" token list`, "bootstrap", "dev-")
	p.must(`"$SEALKEEP" audit verify --database`, "every record is accounted for")
	if status := p.end(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d after SIGTERM:\n%s", status, p.rest.String())
	}
}

// checkSession pastes what was printed into a shell.
func (p *devProcess) checkSession() {
	p.t.Helper()
	var pasted []string
	for i, line := range p.session {
		if strings.HasPrefix(line, ". ") {
			pasted = p.session[i:]
		}
	}
	if _, err := exec.LookPath("curl"); err != nil {
		p.t.Log("this machine has no curl: its line is left out")
		for i, line := range pasted {
			if strings.HasPrefix(line, "curl") {
				pasted[i] = ":"
			}
		}
	}
	for range 2 {
		cmd := exec.Command("sh")
		cmd.Stdin = strings.NewReader("set -e\n" + strings.Join(pasted, "\n") + "\n")
		cmd.Env = devEnvironment()
		out, err := cmd.CombinedOutput()
		if err != nil {
			p.t.Fatalf("%v\n%s\ngave\n%s", err, strings.Join(pasted, "\n"), out)
		}
		for _, text := range []string{
			"created demo/greeting, version 1", "value     hello from the vault", "valid, version 1", "every record is accounted for",
			"deleted demo/greeting",
		} {
			if !strings.Contains(string(out), text) {
				p.t.Errorf("%q is not in:\n%s", text, out)
			}
		}
	}
}

// checkEnvironment uses what DIR/env promises.
func (p *devProcess) checkEnvironment() {
	p.t.Helper()
	p.must(`"$SEALKEEP" token recover second --raw >"$DIR/second" && VAULT_TOKEN=$(cat "$DIR/second") "$SEALKEEP" role list`, "admin")
	p.must(`test "$(cat "$DIR/admin-token")" = "$VAULT_TOKEN"`)
	if out, err := p.sh(`"$SEALKEEP" init`); err == nil || !strings.Contains(out, "initialised already") {
		p.t.Errorf("init again: %v\n%s", err, out)
	}
	if body, err := get(p.t.Context(), p.address()+"/readyz"); err != nil || !strings.HasPrefix(body, "200 ") {
		p.t.Errorf("/readyz: %s %v", body, err)
	}
	if _, err := exec.LookPath("psql"); err != nil {
		p.t.Log("this machine has no psql")
		return
	}
	p.must(`psql -X -Atc "SELECT usesuper FROM pg_user WHERE usename = current_user"`, "t\n")
	p.must(`psql -X -Atc "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'api/%'"`, apiRole+"\n")
	p.must(`"$SEALKEEP" migrate roles --print | psql -X -v ON_ERROR_STOP=1 && "$SEALKEEP" migrate roles --print | psql -X -v ON_ERROR_STOP=1`)
	p.must(`psql -X -Atc "SELECT count(*) FROM pg_auth_members m WHERE m.member::regrole::text LIKE 'sealkeep_%'"`, "4\n")
}

// checkRotator has a secret rotated when it is due.
func (p *devProcess) checkRotator() {
	p.t.Helper()
	p.must(`"$SEALKEEP" secret create app/due --rotation-interval 1s`)
	for strings.Contains(p.must(`"$SEALKEEP" secret get app/due`), "version   1\n") {
		if p.t.Failed() {
			p.t.FailNow()
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.must(`"$SEALKEEP" audit tail -n 200 --json`, "process:rotator/")
	p.must(`"$SEALKEEP" secret rm --yes app/due`)
	if text, err := get(p.t.Context(), p.rotatorMetrics()); err != nil || !strings.Contains(text, `sealkeep_rotation_attempts_total{outcome="done"}`) {
		p.t.Errorf("the rotator's metrics: %v\n%s", err, text)
	}
}

// apiRole is the login user of API processes.
const apiRole = "sealkeep_api"

func TestDev_EndsWithWhatEndsUnderIt(t *testing.T) {
	t.Parallel()
	for what, pid := range map[string]func(*devProcess) int{
		"PostgreSQL ended":          (*devProcess).postmaster,
		"the api process ended":     func(p *devProcess) int { return p.child(apiChildName) },
		"the rotator process ended": func(p *devProcess) int { return p.child(rotatorChildName) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := startDev(t, devFolder(t))
			postmaster, address := p.postmaster(), p.address()
			if err := syscall.Kill(pid(p), syscall.SIGQUIT); err != nil {
				t.Fatal(err)
			}
			select {
			case <-p.done:
			case <-time.After(stopLimit):
				t.Fatalf("still there %s after it", stopLimit)
			}
			if status := p.cmd.ProcessState.ExitCode(); status != 1 || !strings.Contains(p.rest.String(), what) {
				t.Errorf("status %d:\n%s", status, p.rest.String())
			}
			p.gone(postmaster, address)
		})
	}
}

// child is the process id of one of its children.
func (p *devProcess) child(name string) int {
	p.t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,args=").Output()
	if err != nil {
		p.t.Skipf("this machine has no ps: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		if words[1] == strconv.Itoa(p.cmd.Process.Pid) && words[len(words)-1] == name {
			pid, err := strconv.Atoi(words[0])
			if err != nil {
				p.t.Fatal(err)
			}
			return pid
		}
	}
	p.t.Fatalf("no %s in:\n%s", name, out)
	return 0
}

func TestDev_KeepsTheUsersOwnSettings(t *testing.T) {
	t.Parallel()
	dir := devFolder(t)
	token := newToken(t)
	p := startDev(t, dir, "VAULT_ALLOWED_IPS=", "VAULT_BOOTSTRAP_TOKEN="+token)
	if !strings.Contains(p.out.String(), "VAULT_ALLOWED_IPS is set and leaves out 127.0.0.1") {
		t.Errorf("it doesn't say that reads will be refused:\n%s", p.out.String())
	}
	p.must(`test "$VAULT_TOKEN" = "`+token+`" && printf x | "$SEALKEEP" secret create app/x`, "created app/x")
	out, err := p.sh(`"$SEALKEEP" secret get app/x`)
	if err == nil || !strings.Contains(out, "VAULT_ALLOWED_IPS") {
		t.Errorf("an empty allowlist: %v\n%s", err, out)
	}
	p.end(os.Interrupt)

	if err := os.Remove(filepath.Join(dir, "master-key")); err != nil {
		t.Fatal(err)
	}
	refused, err := devCommand(dir, devEnvironment()).CombinedOutput()
	if err == nil || !strings.Contains(string(refused), "put it back") {
		t.Errorf("a vault without its master key: %v\n%s", err, refused)
	}
}

func TestDev_RefusesABadConfigurationBeforeItStartsAnything(t *testing.T) {
	t.Parallel()
	dir := devFolder(t)
	out, err := devCommand(dir, devEnvironment("VAULT_ALLOWED_IPS=10.0.0.1/8", "VAULT_READ_AUTH=none", "VAULT_KMS_MODE=aws", "VAULT_ROTATION_WORKERS=none")).CombinedOutput()
	if err == nil {
		t.Fatal("it started")
	}
	for _, name := range []string{"VAULT_ALLOWED_IPS", "VAULT_READ_AUTH", "VAULT_KMS_MODE", "VAULT_ROTATION_WORKERS"} {
		if !strings.Contains(string(out), name) {
			t.Errorf("%s is not in:\n%s", name, out)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "data")); err == nil {
		t.Error("it made a database")
	}
}

func TestDev_AddressInUse(t *testing.T) {
	t.Parallel()
	dir := devFolder(t)
	server := newAnswering(t, 200, nil, "")
	listen := strings.TrimPrefix(server.URL, "http://")
	out, err := devCommand(dir, devEnvironment(), "--api-listen", listen).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "address already in use") || !strings.Contains(string(out), "--api-listen") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Lstat(filepath.Join(dir, "env")); err == nil {
		t.Error("DIR/env names an address at which somebody else answers")
	}
}
