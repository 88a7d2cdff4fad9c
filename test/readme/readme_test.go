// Package readme runs what README.md tells its readers to type, against the programs of this repository and a real
// PostgreSQL, and compares what is printed with what README.md shows. What differs from run to run, such as ids, times,
// ports, tokens and generated values, is compared by its form.
package readme

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	_ "github.com/sealkeep/sealkeep/internal/cli" // for the same reason: with it any change of the programs is one of this test
	"github.com/sealkeep/sealkeep/internal/pgserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(cleaning{m}) }

// cleaning removes the programs when the tests are over.
type cleaning struct{ m *testing.M }

func (c cleaning) Run() int {
	code := c.m.Run()
	if dir, err := programs(); err == nil {
		_ = os.RemoveAll(dir)
	}
	return code
}

// programs is a folder with the programs, built once, as `make build` does.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sealkeep-readme-")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", dir+string(filepath.Separator), "./cmd/...")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("building: %w\n%s", err, out)
	}
	return dir, nil
})

const root = "../.."

// step is one block of commands and what README.md shows below it.
type step struct {
	script string
	shown  string
}

var blocks = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$(?:\\s*^```text\n(.*?)^```$)?")

// steps gives those of one section.
func steps(t *testing.T, heading string) []step {
	t.Helper()
	// README.md here is a link to the one at the root: the go command looks for changes in this module alone before it
	// repeats an earlier result.
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("README.md has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var all []step
	for _, m := range blocks.FindAllStringSubmatch(section, -1) {
		all = append(all, step{script: m[1], shown: m[2]})
	}
	return all
}

// workplace is a folder with the programs in bin/, and an environment in which README.md's commands run.
type workplace struct {
	dir      string
	env      []string
	binaries pgserver.Binaries
}

func newWorkplace(t *testing.T) workplace {
	t.Helper()
	binaries, err := pgserver.Find(os.Getenv, "")
	if err != nil {
		t.Skip(err)
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("README.md uses curl, and there is none here")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	built, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"api", "rotator", "sealkeep"} {
		if err := os.Symlink(filepath.Join(built, program), filepath.Join(bin, program)); err != nil {
			t.Fatal(err)
		}
	}
	w := workplace{dir: dir, binaries: binaries}
	w.providePsql(t)
	w.env = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + os.TempDir(), "LC_ALL=C",
		pgserver.BinariesVariable + "=" + binaries.Dir,
	}
	return w
}

// providePsql puts the server's own psql where there is no other.
func (w workplace) providePsql(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("psql"); err == nil {
		return
	}
	own := filepath.Join(w.binaries.Dir, "psql")
	if _, err := exec.LookPath(own); err != nil {
		t.Skip("README.md uses psql, and there is none here")
	}
	wrapper := "#!/bin/sh\nLD_LIBRARY_PATH='" + w.binaries.LibraryPath + "' exec '" + own + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(w.dir, "bin", "psql"), []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
}

// run runs the steps in one shell, as a reader does, and holds what each prints against what is shown. replace turns
// names that README.md uses into those that exist here.
func (w workplace) run(t *testing.T, all []step, replace ...string) {
	t.Helper()
	var script strings.Builder
	script.WriteString("exec 2>&1\n")
	for i, s := range all {
		script.WriteString(strings.NewReplacer(replace...).Replace(s.script) + mark("printf '%s'", i) + "\n")
	}
	shell := exec.Command("sh", "-c", script.String())
	shell.Dir, shell.Env = w.dir, w.env
	out, err := shell.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, s := range all {
		printed, rest, found := bytes.Cut(out, []byte(mark("", i)))
		if !found {
			t.Fatalf("the shell ended within step %d:\n%s\n%s", i, s.script, out)
		}
		out = rest
		w.compare(t, s, string(printed))
	}
}

// mark is what separates one step's output from the next, or the command that prints it.
func mark(command string, i int) string {
	text := "\x01" + strconv.Itoa(i) + "\x01"
	if command == "" {
		return text
	}
	return command + " '" + text + "'"
}

func (w workplace) compare(t *testing.T, s step, printed string) {
	t.Helper()
	if form(printed, w.dir) != form(s.shown, "") {
		t.Errorf("README.md doesn't show what is printed by\n%s\nIt is\n%s\nand by its form\n%s\nin place of\n%s",
			s.script, printed, form(printed, w.dir), form(s.shown, ""))
	}
}

// forms replace what differs from run to run, or from machine to machine, by its name.
var forms = []struct {
	what *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`[ \t]+\n`), "\n"},
	{regexp.MustCompile(`svk_([0-9A-Za-z]{49}|…)`), "TOKEN"}, // scanners for leaked tokens would find a whole one
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`(?m)^Date: .*GMT\r?$`), "Date: TIME"},
	{regexp.MustCompile(`\r`), ""},
	{regexp.MustCompile(`\b[A-Z2-7]{26}\b`), "REQUEST"},
	{regexp.MustCompile(`("value":"|value +)[A-Za-z0-9_-]{43}\b`), "${1}VALUE"},
	{regexp.MustCompile(`\b[0-9a-f]{24}\b`), "HEX"},
	{regexp.MustCompile(`\d+ records in \d+ streams checked, \d+ of them open`), "N records in N streams checked, N of them open"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://ADDRESS"},
	{regexp.MustCompile(`(?m)^sealkeep \S+ \(go[^)\n]+\)$`), "sealkeep VERSION"},
	{regexp.MustCompile(`(?m)^Starting PostgreSQL \S+ from \S+$`), "Starting PostgreSQL"},
	{regexp.MustCompile(`(?m)^  \S.*\bpsql'? -P pager=off `), "  psql -P pager=off "},
	{regexp.MustCompile(`(?m)^  psql -P pager=off `), "  psql -P pager=off "},
	{regexp.MustCompile(`(/[\w.-]+)+/\.sealkeep\b`), "DIR/.sealkeep"},
}

// form is a text without what differs from run to run.
func form(text, dir string) string {
	if dir != "" {
		text = strings.ReplaceAll(text, dir, "/dir")
	}
	for _, f := range forms {
		text = f.what.ReplaceAllString(text, f.name)
	}
	return strings.TrimRight(text, "\n")
}
